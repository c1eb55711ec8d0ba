"""SAQ on Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import uvloop
from saq import Queue

from bench.peers.order import SLEEP_SECONDS, SLOTS, Counter, Order
from bench.peers.starts import Starts

ORDER: Final = Order.read()
GATHERED: Final = 500
queue: Final = Queue.from_url(ORDER.redis_url)
counter: Final = Counter(ORDER)
recorder: Final = Starts(ORDER.starts)


async def noop(_: Any) -> None:
    counter.ran()


async def sleep(_: Any) -> None:
    await asyncio.sleep(SLEEP_SECONDS)
    counter.ran()


async def stamped(_: Any, *, sent_at: float) -> None:
    recorder.add(sent_at)


settings: Final = {"queue": queue, "functions": [noop, sleep, stamped], "concurrency": SLOTS}
"""What its command is started with."""


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    await queue.connect()
    yield
    await queue.disconnect()


async def submit(sent_at: float) -> None:
    await queue.enqueue("stamped", sent_at=sent_at)


async def enqueue() -> None:
    async with connected():
        for tasks in ORDER.batches(GATHERED):
            await asyncio.gather(*(queue.enqueue(ORDER.task) for _ in range(tasks)))


if __name__ == "__main__":
    uvloop.run(enqueue())
