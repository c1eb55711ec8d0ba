"""Publishing without waiting: a message goes out at once, and a future tells what became of it."""

import asyncio
from collections.abc import Mapping
from typing import Final

import aiormq
from aio_pika.abc import AbstractChannel

from aftercommit.broker import receipt
from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.declaration import Declarer
from aftercommit.broker.frames import Confirm, send_at_once
from aftercommit.broker.message import DELIVERY_MODES, Message
from aftercommit.broker.receipt import Receipt
from aftercommit.core.errors import BrokerUnavailable

CHECK_SECONDS: Final = 10.0
"""Queues that cannot be used are looked at again after so long."""


class Pipeline:
    """Publishes on a connection of its own. It declares nothing; the relays do."""

    def __init__(self, connection: BrokerConnection, declarer: Declarer, *, unblock_seconds: float) -> None:
        self._connection = connection
        self._declarer = declarer
        self._delivery_mode = DELIVERY_MODES[declarer.queue_type]
        self._unblock_seconds = unblock_seconds
        self._compared_at: float | None = None
        self._channel: AbstractChannel | None = None
        self._sending: aiormq.Channel | None = None

    @property
    def problems(self) -> Mapping[str, str]:
        """Queues that nothing may be published to, and why."""
        return self._declarer.report.problems

    @property
    def is_open(self) -> bool:
        return self._sending is not None and not self._sending.is_closed

    async def prepare(self) -> None:
        """Have an open, unblocked channel. Raises BrokerUnavailable."""
        if not self.is_open:
            await self.close()
            self._channel = await self._connection.open_channel(publisher_confirms=True)
            sending = await self._channel.get_underlay_channel()
            assert isinstance(sending, aiormq.Channel)
            self._sending = sending
        await self._connection.wait_unblocked(self._unblock_seconds)
        await self._compare()

    async def _compare(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._compared_at is None or (self.problems and now - self._compared_at >= CHECK_SECONDS):
            await self._declarer.compare()
            self._compared_at = now

    def send(self, message: Message) -> Confirm | Receipt:
        """Send a message; ``outcome`` reads what the future tells. Raises BrokerUnavailable when nothing can be sent
        now; the message was not sent then."""
        if self._sending is None or self._sending.is_closed:
            raise BrokerUnavailable("RabbitMQ is not connected.")
        try:
            (sent,) = send_at_once(self._sending, [message], delivery_mode=self._delivery_mode)
        except asyncio.QueueFull:
            raise BrokerUnavailable("The connection to RabbitMQ takes nothing now.") from None
        return sent

    def outcome(self, message: Message, confirm: Confirm) -> Receipt:
        """What became of a message whose future is done. Where the broker closed the channel over one of several, the
        message may be it or not: unknown."""
        if self._sending is not None:
            self._sending.message_id_delivery_tag.pop(message.message_id, None)
        read = receipt.read(confirm)
        return read if isinstance(read, Receipt) else receipt.UNANSWERED

    async def close(self) -> None:
        """Close the connection. What is under way stays unanswered."""
        self._channel = self._sending = self._compared_at = None
        await self._connection.close()
