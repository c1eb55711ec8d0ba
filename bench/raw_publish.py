"""``python -m bench.raw_publish URL MESSAGES``: publish with confirms as aio-pika offers it; prints the seconds."""

import asyncio
import json
import sys
import time
from typing import Final

import aio_pika
import uvloop

BATCH: Final = 500
WARM_UP: Final = 1_000
BODY: Final = b'{"v":1,"tasks":[{"id":"01a2006c-289c-7541-a78a-ace7c219d987","dispatch":1}]}'
QUEUE: Final = "raw"


async def publish(url: str, messages: int) -> float:
    """Seconds from the first message to the last confirm."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        await _publish(channel, WARM_UP)
        start = time.monotonic()
        await _publish(channel, messages)
        return time.monotonic() - start


async def _publish(channel: aio_pika.abc.AbstractChannel, messages: int) -> None:
    for first in range(0, messages, BATCH):
        await asyncio.gather(
            *(
                channel.default_exchange.publish(
                    aio_pika.Message(BODY, delivery_mode=aio_pika.DeliveryMode.PERSISTENT), QUEUE, mandatory=True
                )
                for _ in range(min(BATCH, messages - first))
            )
        )


if __name__ == "__main__":
    print(json.dumps(uvloop.run(publish(sys.argv[1], int(sys.argv[2])))))
