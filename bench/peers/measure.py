"""One peer, once."""

import asyncio
from collections.abc import Sequence

from bench.child_process import Died
from bench.figures import Sample
from bench.ground import Ground
from bench.peers import environments, single, throughput
from bench.peers.environments import Environment
from bench.peers.order import LATENCY, PRIORITY
from bench.peers.peer import Peer


async def measure(ground: Ground, found: Sequence[Environment], peer: Peer, kind: str) -> Sample:
    """Raises Died when no environment has it, one of its processes fails, or it takes too long."""
    python = environments.of(peer, found).python
    try:
        async with asyncio.timeout(ground.sizes.peer_seconds):
            if kind == LATENCY:
                return await single.measure_latency(ground, python, peer)
            if kind == PRIORITY:
                return await single.measure_priority(ground, python, peer)
            return await throughput.measure(ground, python, peer, kind)
    except TimeoutError:
        raise Died(f"{peer.name} did not run its {kind} tasks within {ground.sizes.peer_seconds} s") from None
