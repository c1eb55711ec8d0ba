"""Oban for Python: a queue in Postgres."""

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import uvloop
from oban import Oban, job
from oban.schema import install

from bench.peers.order import SLEEP_SECONDS, Counter, Order
from bench.peers.starts import Starts

ORDER: Final = Order.read()
BATCH: Final = 1_000
POOL: Final = 10
"""Its default."""

counter: Final = Counter(ORDER)
starts: Final = Starts(ORDER.starts)


@job()
async def noop() -> None:
    counter.ran()


@job()
async def sleep() -> None:
    await asyncio.sleep(SLEEP_SECONDS)
    counter.ran()


@job()
async def stamped(sent_at: float) -> None:
    starts.add(sent_at)


@asynccontextmanager
async def connected() -> AsyncIterator[Oban]:
    """A client that only enqueues. Not started, since it would then listen to each job that it inserts."""
    async with await Oban.create_pool(ORDER.dsn, max_size=POOL) as pool:
        yield Oban(pool=pool)


async def submit(sent_at: float) -> None:
    # stamped.enqueue() of 0.7.0 binds the arguments twice.
    await Oban.get_instance().enqueue(stamped.new(sent_at))


async def enqueue() -> None:
    task = {"noop": noop, "sleep": sleep}[ORDER.task]
    async with await Oban.create_pool(ORDER.dsn) as pool:
        await install(pool)
    async with connected() as oban:
        for tasks in ORDER.batches(BATCH):
            await oban.enqueue_many([task.new() for _ in range(tasks)])


if __name__ == "__main__":
    # A job is named after its module, by which the worker finds it.
    uvloop.run(importlib.import_module("bench.peers.oban").enqueue())
