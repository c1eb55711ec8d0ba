"""The marker: a message of ours in a queue of its own, which RabbitMQ keeps just as the messages of tasks. Where it
is gone the broker has lost those too.

Its queue has the type of the work queues and its message their delivery mode, so it survives what they survive: a
restart under quorum queues, nothing under classic queues with transient messages.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelClosed, DeliveryError, PublishError
from aiormq.exceptions import ChannelPreconditionFailed

from aftercommit.broker.broker_errors import BROKER_ERRORS, sentence, unavailable
from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.message import DELIVERY_MODES
from aftercommit.core.queues import QueueType

log = structlog.get_logger(__name__)

MARKER: Final = "aftercommit.marker"
"""Not ``tasks.…``: a policy for those, a TTL say, must not take the marker away."""

PLANT_SECONDS: Final = 10.0

FRESH: Final = timedelta(minutes=1)
"""A marker younger than this was planted by a process that found it gone at the same time."""


class Marker:
    """Any number of processes may ask for it; the broker decides which of them plants it anew."""

    def __init__(self, connection: BrokerConnection, queue_type: QueueType) -> None:
        self._connection = connection
        self._queue_type = queue_type
        self._problem: str | None = None
        self._arguments: dict[str, Any] = {
            "x-queue-type": str(queue_type),
            # Where there is one another is refused.
            "x-max-length": 1,
            "x-overflow": "reject-publish",
        }

    async def was_gone(self) -> bool:
        """Whether the marker was not there; it is there now.

        At least one of several processes that ask at once is told so. Nobody is when the answer to that one is lost.
        Raises BrokerUnavailable. Where the queue may not be declared nothing can be said, and that is logged once.
        """
        try:
            # The number decides only whether to try: a quorum queue without a leader says 0 too.
            gone = await self._count() == 0 and await self._plant()
        except ChannelClosed as error:
            self._tell(sentence(error))
            return False
        self._tell(None)
        return gone

    async def _count(self) -> int:
        try:
            return await self._declare()
        except ChannelPreconditionFailed:
            # The queues had another type before. It holds nothing but the marker.
            async with self._connection.channel() as channel:
                await channel.queue_delete(MARKER)
        return await self._declare()

    async def _declare(self) -> int:
        async with self._connection.channel() as channel:
            queue = await channel.declare_queue(MARKER, durable=True, arguments=self._arguments)
        return queue.declaration_result.message_count or 0

    async def _plant(self) -> bool:
        """Whether there was no marker that is older. A new channel each time: one that was refused goes on being
        refused."""
        channel = await self._connection.open_channel(publisher_confirms=True)
        try:
            async with asyncio.timeout(PLANT_SECONDS):
                return await self._publish(channel)
        except BROKER_ERRORS as error:
            # A returned message is not refused: somebody deleted the queue meanwhile.
            if isinstance(error, DeliveryError) and not isinstance(error, PublishError):
                return False
            raise unavailable(error) from error
        finally:
            await self._connection.close_channel(channel)

    async def _publish(self, channel: AbstractChannel) -> bool:
        mode = aio_pika.DeliveryMode(DELIVERY_MODES[self._queue_type])
        now = datetime.now(UTC)
        await channel.default_exchange.publish(aio_pika.Message(b"", timestamp=now, delivery_mode=mode), MARKER)
        # A quorum queue takes one message more than its limit.
        first = await (await channel.get_queue(MARKER, ensure=False)).get(fail=False)
        if first is not None:
            await first.nack(requeue=True)
        return first is None or first.timestamp is None or now - first.timestamp < FRESH

    def _tell(self, problem: str | None) -> None:
        if problem and problem != self._problem:
            log.warning("marker_unusable", queue=MARKER, problem=problem)
        self._problem = problem
