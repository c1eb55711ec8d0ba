"""pgqueuer: a queue in Postgres, worked as its own benchmark works it. With ``work`` it is the worker."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.peers.order import LATENCY, NOOP, SLEEP_SECONDS, SLOTS, Counter, Order
from bench.peers.starts import Starts

ORDER: Final = Order.read()
BATCH: Final = 1_000
clients: Final[list[Queries]] = []


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    """With a pool of ten connections, asyncpg's default."""
    async with asyncpg.create_pool(ORDER.dsn) as pool:
        clients.append(Queries(AsyncpgPoolDriver(pool)))
        yield


async def submit(sent_at: float) -> None:
    await clients[0].enqueue("stamped", json.dumps({"sent_at": sent_at}).encode())


async def enqueue() -> None:
    connection = await asyncpg.connect(ORDER.dsn)
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    for tasks in ORDER.batches(BATCH):
        await queries.enqueue([ORDER.task] * tasks, [None] * tasks, [0] * tasks)
    await connection.close()


async def work() -> None:
    counter = Counter(ORDER)
    starts = Starts(ORDER.starts)
    worker = PgQueuer(AsyncpgDriver(await asyncpg.connect(ORDER.dsn)))

    @worker.entrypoint("noop")
    async def noop(_: Job) -> None:
        counter.ran()

    @worker.entrypoint("sleep")
    async def sleep(_: Job) -> None:
        await asyncio.sleep(SLEEP_SECONDS)
        counter.ran()

    @worker.entrypoint("stamped")
    async def stamped(job: Job) -> None:
        starts.add(json.loads(job.payload or b"")["sent_at"])

    if ORDER.kind == LATENCY:
        await worker.run()  # a limit to the tasks at a time would make its statements dearer
    elif ORDER.task == NOOP:
        await worker.run(batch_size=BATCH)
    else:
        # It wants the limit to be twice the batch or more.
        await worker.run(batch_size=SLOTS // 2, max_concurrent_tasks=SLOTS)


if __name__ == "__main__":
    uvloop.run(work() if sys.argv[1:] == ["work"] else enqueue())
