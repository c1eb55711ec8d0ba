"""Single tasks of one peer, sent by the clock to an endpoint before it; alone, or behind a backlog of low ones."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import clocked
from bench.clocked import Start
from bench.figures import Sample
from bench.ground import Ground
from bench.installation import send
from bench.load import STAMP, Order, Receipt
from bench.peers import starts
from bench.peers.order import LATENCY, PRIORITY
from bench.peers.peer import Peer
from bench.peers.standing import SWEEP_SECONDS, Standing, stand

PREPARE_SECONDS: Final = 120.0
"""For its tables, or for its backlog."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A peer to which tasks are sent by the clock."""

    standing: Standing

    async def send(self, *, tasks: int, rate: int, connections: int, patience_seconds: float) -> Receipt:
        order = Order(
            port=self.standing.port,
            path="/tasks",
            body=f'{{"sent_at": {STAMP}}}',
            requests=tasks,
            connections=connections,
            rate=rate,
            stamped=True,
            patience_seconds=patience_seconds,
        )
        return await send(order)

    async def until_run(self, tasks: int, *, since: float) -> None:
        while len(await self.starts(since=since)) < tasks:
            self.standing.check()
            await asyncio.sleep(SWEEP_SECONDS)

    async def starts(self, *, since: float) -> list[Start]:
        return starts.read(self.standing.order.starts, since=since)

    def pids(self) -> dict[str, list[int]]:
        return self.standing.pids()


async def measure_latency(ground: Ground, python: Path, peer: Peer) -> Sample:
    """At each of the rates."""
    async with stand(ground, python, peer, LATENCY) as standing:
        endpoint = await _warm(standing)
        await standing.place.checkpoint()
        return await clocked.measure_rates(endpoint, seconds=ground.sizes.latency_seconds)


async def measure_priority(ground: Ground, python: Path, peer: Peer) -> Sample:
    """Of the high ones, and how many low ones still wait at the end."""
    sizes = ground.sizes
    async with stand(ground, python, peer, PRIORITY, tasks=sizes.waiting) as standing:
        order = standing.order
        endpoint = await _warm(standing, prepare=False)
        standing.stop("worker")
        await asyncio.to_thread(standing.enqueue().wait, PREPARE_SECONDS)
        await standing.place.checkpoint()
        standing.work()
        while not starts.count(order.lows):
            standing.check()
            await asyncio.sleep(SWEEP_SECONDS)
        sample = await clocked.measure(endpoint, rate=sizes.high_rate, seconds=sizes.latency_seconds)
        return sample | {"still_waiting": order.tasks - starts.count(order.lows)}


async def _warm(standing: Standing, *, prepare: bool = True) -> Endpoint:
    """Its endpoint and its worker have served some tasks."""
    if prepare:
        await asyncio.to_thread(standing.enqueue().wait, PREPARE_SECONDS)
    await standing.serve()
    standing.work()
    endpoint = Endpoint(standing)
    await clocked.warm_up(endpoint)
    return endpoint
