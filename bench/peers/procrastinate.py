"""Procrastinate: a queue in Postgres."""

import asyncio
from typing import Final

from procrastinate import App, PsycopgConnector

from bench.peers.order import SLEEP_SECONDS, Counter, Order

ORDER: Final = Order.read()
BATCH: Final = 1_000
app: Final = App(connector=PsycopgConnector(conninfo=ORDER.dsn, min_size=4, max_size=20))
counter: Final = Counter(ORDER)


@app.task(name="noop")
async def noop() -> None:
    counter.ran()


@app.task(name="sleep")
async def sleep() -> None:
    await asyncio.sleep(SLEEP_SECONDS)
    counter.ran()


async def enqueue() -> None:
    task = {"noop": noop, "sleep": sleep}[ORDER.task]
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for tasks in ORDER.batches(BATCH):
            await task.batch_defer_async(*[{}] * tasks)


if __name__ == "__main__":
    asyncio.run(enqueue())
