"""The queues and exchanges, and the only code that declares them. Everybody else looks them up passively.

Structure stands in the arguments and its parameter in the name, so nothing is ever declared twice with different
arguments; limits (``max-length`` of a work queue, say) belong into policies.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel

from aftercommit.broker.connection import BROKER_ERRORS, BrokerConnection, describe
from aftercommit.core.errors import BrokerUnavailable
from aftercommit.core.queues import Priority, WorkQueue

DEAD_LETTERS: Final = "tasks.dlq"
MAX_DEAD_LETTERS: Final = 100_000
"""The oldest give way: Postgres keeps the truth about failed tasks."""

MAX_DELIVERIES: Final = 1_000
"""Each message that comes back counts: on 3.10 and 4.0 one that is handed back, on 4.3 only that of a lost channel.
4.x would stop at 20."""

DECLARE_SECONDS: Final = 30.0

_WORK_QUEUE: Final[dict[str, Any]] = {
    "x-queue-type": "quorum",
    "x-overflow": "reject-publish",
    "x-delivery-limit": MAX_DELIVERIES,
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": DEAD_LETTERS,
}
_DEAD_LETTERS: Final[dict[str, Any]] = {
    "x-queue-type": "quorum",
    "x-overflow": "drop-head",
    "x-max-length": MAX_DEAD_LETTERS,
}


def retry_exchange(delay_seconds: int) -> str:
    return f"tasks.retry.{delay_seconds}"


def retry_queue(priority: Priority, delay_seconds: int) -> str:
    return f"tasks.retry.{priority}.{delay_seconds}"


def _retry_arguments(delay_seconds: int) -> dict[str, Any]:
    return {
        "x-queue-type": "quorum",
        "x-message-ttl": delay_seconds * 1000,
        # Without a dead-letter routing key an expired message keeps its own: the work queue it is for.
        "x-dead-letter-exchange": "",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


async def declare(
    connection: BrokerConnection, *, work_queues: Iterable[WorkQueue], delays_seconds: Iterable[int]
) -> None:
    """Declare everything; what exists already is left as it is. Raises BrokerUnavailable."""
    channel = await connection.open_channel()
    try:
        async with asyncio.timeout(DECLARE_SECONDS):
            await channel.declare_queue(DEAD_LETTERS, durable=True, arguments=_DEAD_LETTERS)
            for work_queue in work_queues:
                await channel.declare_queue(str(work_queue), durable=True, arguments=_WORK_QUEUE)
            for delay_seconds in delays_seconds:
                await _declare_delay(channel, delay_seconds)
            await channel.close()
    except BROKER_ERRORS as error:
        raise BrokerUnavailable(f"RabbitMQ did not declare the queues: {describe(error)}") from error


async def _declare_delay(channel: AbstractChannel, delay_seconds: int) -> None:
    exchange = await channel.declare_exchange(retry_exchange(delay_seconds), ExchangeType.TOPIC, durable=True)
    for priority in Priority:
        queue = await channel.declare_queue(
            retry_queue(priority, delay_seconds), durable=True, arguments=_retry_arguments(delay_seconds)
        )
        await queue.bind(exchange, routing_key=f"*.{priority}")
