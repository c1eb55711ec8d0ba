"""The least that FastAPI, RabbitMQ and a handler can do: aio-pika, nothing confirmed, acknowledged or kept.

A transient message in a classic queue, published without confirms and consumed without acknowledgements. With ``work``
it is the worker.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aio_pika
import uvloop

from bench.peers.order import Order
from bench.peers.starts import Starts

ORDER: Final = Order.read()
QUEUE: Final = "bare"
exchanges: Final[list[aio_pika.abc.AbstractExchange]] = []


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    async with await aio_pika.connect(ORDER.amqp_url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        await channel.declare_queue(QUEUE, durable=True)
        exchanges.append(channel.default_exchange)
        yield


async def submit(sent_at: float) -> None:
    message = aio_pika.Message(
        json.dumps({"sent_at": sent_at}).encode(), delivery_mode=aio_pika.DeliveryMode.NOT_PERSISTENT
    )
    await exchanges[0].publish(message, QUEUE)


async def work() -> None:
    starts = Starts(ORDER.starts)

    async def handle(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        starts.add(json.loads(message.body)["sent_at"])

    async with await aio_pika.connect(ORDER.amqp_url) as connection:
        queue = await (await connection.channel()).declare_queue(QUEUE, durable=True)
        await queue.consume(handle, no_ack=True)
        await asyncio.Future()


if __name__ == "__main__":
    if sys.argv[1:] == ["work"]:
        uvloop.run(work())
