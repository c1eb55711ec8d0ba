"""Publishing without waiting: a message goes out at once, and a future tells what became of it."""

import asyncio
from collections.abc import Mapping
from typing import Final

import aiormq
from aio_pika.abc import AbstractChannel

from aftercommit.broker import receipt
from aftercommit.broker.broker_errors import describe
from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.declaration import Declarer
from aftercommit.broker.frames import Confirm, send_at_once
from aftercommit.broker.message import DELIVERY_MODES, Message
from aftercommit.broker.receipt import Fate, Receipt
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
        self._retired: AbstractChannel | None = None
        self._refused = False

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
            # The whole connection: aiormq may have dropped what it owed the broker for the channel.
            await self.close()
            await self._open()
        elif self._refused:
            await self._replace_channel()
        await self._connection.wait_unblocked(self._unblock_seconds)
        await self._compare()

    async def _open(self) -> None:
        self._channel = await self._connection.open_channel(publisher_confirms=True)
        sending = await self._channel.get_underlay_channel()
        assert isinstance(sending, aiormq.Channel)
        self._sending, self._refused = sending, False

    async def _replace_channel(self) -> None:
        """After a refusal: a quorum queue does not tell the channels that it refused when its limit is lifted. What is
        under way on the old channel is still confirmed there."""
        if self._retired is not None:
            await self._connection.close_channel(self._retired)
        self._retired = self._channel
        await self._open()

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
        """What became of a message whose future is done. Where the broker closed the channel over one of several, they
        all count as refused: the relays find the one."""
        if self._sending is not None:
            self._sending.message_id_delivery_tag.pop(message.message_id, None)
        read = receipt.read(confirm)
        found = read if isinstance(read, Receipt) else Receipt(Fate.REFUSED, describe(read))
        self._refused |= found.fate is Fate.REFUSED
        return found

    async def close(self) -> None:
        """Close the connection. What is under way stays unanswered."""
        self._channel = self._sending = self._retired = self._compared_at = None
        await self._connection.close()
