"""What the broker says about its queues over AMQP: depth and consumers."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from aio_pika.exceptions import ChannelClosed

from aftercommit.broker.connection import BrokerConnection


@dataclass(frozen=True, slots=True)
class BrokerQueue:
    ready: int
    consumers: int


class Inspector:
    """Looks queues up passively, on a connection of its own."""

    def __init__(self, connection: BrokerConnection) -> None:
        self._connection = connection

    async def check(self) -> None:
        """Raises BrokerUnavailable when the broker does not answer."""
        async with self._connection.channel():
            pass

    async def look(self, names: Sequence[str]) -> dict[str, BrokerQueue]:
        """The queues of these names that exist and can be used. Raises BrokerUnavailable."""
        queues = await asyncio.gather(*(self._look(name) for name in names))
        return {name: queue for name, queue in zip(names, queues, strict=True) if queue is not None}

    async def _look(self, name: str) -> BrokerQueue | None:
        try:
            # A channel each: a queue that does not exist costs the channel.
            async with self._connection.channel() as channel:
                found = (await channel.declare_queue(name, passive=True)).declaration_result
        except ChannelClosed:
            return None
        return BrokerQueue(found.message_count or 0, found.consumer_count or 0)
