"""Deletes the work queues of queues that are gone."""

from collections.abc import Iterable

from aio_pika.exceptions import ChannelClosed

from aftercommit.broker.connection import BrokerConnection


class QueueRemoval:
    def __init__(self, connection: BrokerConnection) -> None:
        self._connection = connection

    async def delete(self, names: Iterable[str]) -> None:
        """Delete queues with what is in them; one that is not there, or that may not be deleted, is left alone. Raises
        BrokerUnavailable."""
        for name in names:
            try:
                async with self._connection.channel() as channel:
                    await channel.queue_delete(name)
            except ChannelClosed:
                continue
