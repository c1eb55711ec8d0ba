"""Tasks/s of one peer: everything is enqueued and then its worker started, or its worker works meanwhile."""

import asyncio
import time
from pathlib import Path
from typing import Final

from bench.child_process import ChildProcess
from bench.figures import Sample
from bench.ground import Ground
from bench.peers.order import SLEEP, SUSTAINED, WARM_UP
from bench.peers.peer import Peer
from bench.peers.standing import SWEEP_SECONDS, Standing, exists, stand

WARM_SECONDS: Final = 1.0
"""For what is left of the warm-up."""

FORKED_LOOK_SECONDS: Final = 0.2
"""Seldom: counting costs, and the peers concerned take long."""


async def measure(ground: Ground, python: Path, peer: Peer, kind: str) -> Sample:
    """From the first task to the last, or from the first enqueued to the last when the worker works meanwhile:
    recorded, for those that record."""
    async with stand(ground, python, peer, kind, tasks=_tasks(ground, peer, kind)) as standing:
        order = standing.order
        enqueuing = standing.enqueue()
        if kind == SUSTAINED:
            await exists(order.ready, enqueuing)
        else:
            await asyncio.to_thread(enqueuing.wait, float(ground.sizes.peer_seconds))
            await standing.place.settle()
        worker = standing.work()
        if kind == SUSTAINED:
            await exists(order.warm, worker, enqueuing)
            await asyncio.sleep(WARM_SECONDS)
            # Statistics of a hundred tasks would mislead the plans of peers that work in Postgres.
            await standing.place.checkpoint()
            order.go.touch()
            await exists(order.begun, worker, enqueuing)
        return {"rate": order.measured / await _work(standing, worker)}


def _tasks(ground: Ground, peer: Peer, kind: str) -> int:
    """With those that go ahead."""
    if kind == SLEEP:
        return round(ground.sizes.peer_sleep * min(peer.pace, 1))
    return round(ground.sizes.peer_noop * peer.pace) + (WARM_UP if kind == SUSTAINED else 0)


async def _work(standing: Standing, worker: ChildProcess) -> float:
    """Seconds."""
    order, peer = standing.order, standing.peer
    started = order.begun if order.kind == SUSTAINED else order.first
    await exists(started, worker)
    if not peer.forks:
        await exists(order.last, worker)
    started_at = float(started.read_text())
    if peer.unfinished is None:
        return float(order.last.read_text()) - started_at
    while await standing.place.connection.fetchval(peer.unfinished, order.tasks):
        worker.check()
        await asyncio.sleep(FORKED_LOOK_SECONDS if peer.forks else SWEEP_SECONDS)
    return time.time() - started_at
