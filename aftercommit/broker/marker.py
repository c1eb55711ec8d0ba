"""The marker: something of ours that RabbitMQ keeps just as long as the messages of tasks. Where it is gone the broker
has lost those too.

Under quorum queues, which survive a restart, it is a queue of that type, and empty. Under classic queues, which survive
a restart without their transient messages, it is a transient message in a queue of that type.
"""

import asyncio
from typing import Any, Final

import aio_pika
import structlog
from aio_pika.exceptions import ChannelClosed, ChannelNotFoundEntity, DeliveryError, PublishError
from aiormq.exceptions import ChannelPreconditionFailed

from aftercommit.broker.broker_errors import BROKER_ERRORS, sentence, unavailable
from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.message import DELIVERY_MODES
from aftercommit.core.queues import QueueType

log = structlog.get_logger(__name__)

MARKER: Final = "aftercommit.marker"
"""Not ``tasks.…``: a policy for those, a TTL say, must not take the marker away."""

PLANT_SECONDS: Final = 10.0


class Marker:
    """Any number of processes may ask for it."""

    def __init__(self, connection: BrokerConnection, queue_type: QueueType) -> None:
        self._connection = connection
        self._queue_type = queue_type
        self._problem: str | None = None
        self._arguments: dict[str, Any] = {
            "x-queue-type": str(queue_type),
            # Where there is a message another is refused.
            "x-max-length": 1,
            "x-overflow": "reject-publish",
        }

    async def was_gone(self) -> bool:
        """Whether the marker was not there; it is there now.

        At least one of several processes that ask at once is told so. Nobody is when the answer to that one is lost.
        Raises BrokerUnavailable. Where the queue may not be declared nothing can be said, and that is logged once.
        """
        try:
            existed = await self._exists()
            messages = await self._declare()
            gone = messages == 0 and await self._plant() if self._queue_type is QueueType.CLASSIC else not existed
        except ChannelClosed as error:
            self._tell(sentence(error))
            return False
        self._tell(None)
        return gone

    async def _exists(self) -> bool:
        """With this type: one of another type is deleted. It holds nothing but the marker."""
        try:
            async with self._connection.channel() as channel:
                await channel.declare_queue(MARKER, passive=True)
            await self._declare()
        except ChannelNotFoundEntity:
            return False
        except ChannelPreconditionFailed:
            async with self._connection.channel() as channel:
                await channel.queue_delete(MARKER)
            return False
        return True

    async def _declare(self) -> int:
        """How many messages are there."""
        async with self._connection.channel() as channel:
            queue = await channel.declare_queue(MARKER, durable=True, arguments=self._arguments)
        return queue.declaration_result.message_count or 0

    async def _plant(self) -> bool:
        """Whether ours is the message that is there now. A new channel each time: one that was refused goes on being
        refused."""
        channel = await self._connection.open_channel(publisher_confirms=True)
        try:
            async with asyncio.timeout(PLANT_SECONDS):
                mode = aio_pika.DeliveryMode(DELIVERY_MODES[self._queue_type])
                await channel.default_exchange.publish(aio_pika.Message(b"", delivery_mode=mode), MARKER)
        except BROKER_ERRORS as error:
            # A returned message is not refused: somebody deleted the queue meanwhile.
            if isinstance(error, DeliveryError) and not isinstance(error, PublishError):
                return False
            raise unavailable(error) from error
        finally:
            await self._connection.close_channel(channel)
        return True

    def _tell(self, problem: str | None) -> None:
        if problem and problem != self._problem:
            log.warning("marker_unusable", queue=MARKER, problem=problem)
        self._problem = problem
