"""taskiq with its aio-pika broker."""

import asyncio
from typing import Final

import uvloop
from taskiq_aio_pika import AioPikaBroker

from bench.peers.order import SLEEP_SECONDS, Counter, Order

ORDER: Final = Order.read()
GATHERED: Final = 500
broker: Final = AioPikaBroker(ORDER.amqp_url, qos=500)
counter: Final = Counter(ORDER)


@broker.task(task_name="noop")
async def noop() -> None:
    counter.ran()


@broker.task(task_name="sleep")
async def sleep() -> None:
    await asyncio.sleep(SLEEP_SECONDS)
    counter.ran()


async def enqueue() -> None:
    task = {"noop": noop, "sleep": sleep}[ORDER.task]
    await broker.startup()
    for tasks in ORDER.batches(GATHERED):
        await asyncio.gather(*(task.kiq() for _ in range(tasks)))
    await broker.shutdown()


if __name__ == "__main__":
    uvloop.run(enqueue())
