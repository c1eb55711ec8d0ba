"""What the broker says about its queues over AMQP: depth and consumers."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from aio_pika.exceptions import ChannelNotFoundEntity

from aftercommit.broker.connection import BROKER_ERRORS, CALL_SECONDS, BrokerConnection, describe
from aftercommit.core.errors import BrokerUnavailable


@dataclass(frozen=True, slots=True)
class BrokerQueue:
    ready: int
    consumers: int


class Inspector:
    """Looks at queues passively, on a connection of its own."""

    def __init__(self, connection: BrokerConnection) -> None:
        self._connection = connection

    async def check(self) -> None:
        """Raises BrokerUnavailable when the broker does not answer."""
        channel = await self._connection.open_channel()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await channel.close()
        except BROKER_ERRORS as error:
            raise BrokerUnavailable(f"RabbitMQ cannot be reached: {describe(error)}") from error

    async def look(self, names: Sequence[str]) -> dict[str, BrokerQueue]:
        """The queues of these names that exist. Raises BrokerUnavailable."""
        queues = await asyncio.gather(*(self._look(name) for name in names))
        return {name: queue for name, queue in zip(names, queues, strict=True) if queue is not None}

    async def _look(self, name: str) -> BrokerQueue | None:
        # A channel each: a queue that does not exist costs the channel.
        channel = await self._connection.open_channel()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                queue = await channel.declare_queue(name, passive=True)
                found = queue.declaration_result
                await channel.close()
        except ChannelNotFoundEntity:
            return None
        except BROKER_ERRORS as error:
            raise BrokerUnavailable(f"RabbitMQ cannot be reached: {describe(error)}") from error
        return BrokerQueue(found.message_count or 0, found.consumer_count or 0)
