"""Procrastinate: a queue in Postgres."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from procrastinate import App, PsycopgConnector

from bench.peers.order import SLEEP_SECONDS, Counter, Order
from bench.peers.starts import Starts

ORDER: Final = Order.read()
BATCH: Final = 1_000
app: Final = App(connector=PsycopgConnector(conninfo=ORDER.dsn, min_size=4, max_size=20))
counter: Final = Counter(ORDER)
starts: Final = Starts(ORDER.starts)


@app.task(name="noop")
async def noop() -> None:
    counter.ran()


@app.task(name="sleep")
async def sleep() -> None:
    await asyncio.sleep(SLEEP_SECONDS)
    counter.ran()


@app.task(name="stamped")
async def stamped(sent_at: float) -> None:
    starts.add(sent_at)


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    async with app.open_async():
        yield


async def submit(sent_at: float) -> None:
    await stamped.defer_async(sent_at=sent_at)


async def enqueue() -> None:
    task = {"noop": noop, "sleep": sleep}[ORDER.task]
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for tasks in ORDER.batches(BATCH):
            await task.batch_defer_async(*[{}] * tasks)


if __name__ == "__main__":
    asyncio.run(enqueue())
