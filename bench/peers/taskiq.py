"""taskiq with its aio-pika broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import uvloop
from taskiq_aio_pika import AioPikaBroker

from bench.peers.order import SLEEP_SECONDS, Counter, Order
from bench.peers.starts import Starts

ORDER: Final = Order.read()
GATHERED: Final = 500
broker: Final = AioPikaBroker(ORDER.amqp_url, qos=500)
counter: Final = Counter(ORDER)
starts: Final = Starts(ORDER.starts)


@broker.task(task_name="noop")
async def noop() -> None:
    counter.ran()


@broker.task(task_name="sleep")
async def sleep() -> None:
    await asyncio.sleep(SLEEP_SECONDS)
    counter.ran()


@broker.task(task_name="stamped")
async def stamped(sent_at: float) -> None:
    starts.add(sent_at)


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    await broker.startup()
    yield
    await broker.shutdown()


async def submit(sent_at: float) -> None:
    await stamped.kiq(sent_at)


async def enqueue() -> None:
    task = {"noop": noop, "sleep": sleep}[ORDER.task]
    async with connected():
        for tasks in ORDER.batches(GATHERED):
            await asyncio.gather(*(task.kiq() for _ in range(tasks)))


if __name__ == "__main__":
    uvloop.run(enqueue())
