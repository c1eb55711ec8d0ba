"""pgqueuer: a queue in Postgres, worked as its own benchmark works it. With ``work`` it is the worker."""

import asyncio
import sys
from typing import Final

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.peers.order import NOOP, SLEEP_SECONDS, SLOTS, Counter, Order

ORDER: Final = Order.read()
BATCH: Final = 1_000


async def enqueue() -> None:
    connection = await asyncpg.connect(ORDER.dsn)
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    for tasks in ORDER.batches(BATCH):
        await queries.enqueue([ORDER.task] * tasks, [None] * tasks, [0] * tasks)
    await connection.close()


async def work() -> None:
    counter = Counter(ORDER)
    worker = PgQueuer(AsyncpgDriver(await asyncpg.connect(ORDER.dsn)))

    @worker.entrypoint("noop")
    async def noop(_: Job) -> None:
        counter.ran()

    @worker.entrypoint("sleep")
    async def sleep(_: Job) -> None:
        await asyncio.sleep(SLEEP_SECONDS)
        counter.ran()

    if ORDER.task == NOOP:
        await worker.run(batch_size=BATCH)
    else:
        # It wants the limit to be twice the batch or more.
        await worker.run(batch_size=SLOTS // 2, max_concurrent_tasks=SLOTS)


if __name__ == "__main__":
    uvloop.run(work() if sys.argv[1:] == ["work"] else enqueue())
