"""Publishing with confirms: a batch goes out pipelined, and each message comes back with what became of it."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import aiormq
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import DeliveryError, PublishError
from aiormq.abc import ChannelFrame
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from aftercommit.broker import topology
from aftercommit.broker.connection import BROKER_ERRORS, CALL_SECONDS, BrokerConnection, describe
from aftercommit.broker.message import Message
from aftercommit.core.errors import BrokerUnavailable
from aftercommit.core.queues import WorkQueue

PERSISTENT: Final = 2


class Fate(StrEnum):
    """``unknown``: no answer came; the broker may or may not have the message, and it is not to blame."""

    CONFIRMED = "confirmed"
    REFUSED = "refused"
    RETURNED = "returned"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Receipt:
    fate: Fate
    reason: str = ""


_CONFIRMED: Final = Receipt(Fate.CONFIRMED)
_UNSENT: Final = Receipt(Fate.UNKNOWN, "no confirm came in time")
_REFUSED: Final = Receipt(Fate.REFUSED, "the queue is full")


class Publisher:
    """Publishes on a connection of its own, bounded from outside: no call outlasts ``confirm_seconds`` by much.

    After (re)connecting it declares the topology first, so that a broker that lost everything is usable at once.
    """

    def __init__(
        self,
        connection: BrokerConnection,
        *,
        work_queues: Sequence[WorkQueue],
        delays_seconds: Iterable[int],
        confirm_seconds: float,
    ) -> None:
        self._connection = connection
        self._work_queues = work_queues
        self._delays = frozenset(delays_seconds)
        self._declared: frozenset[int] | None = None
        self._confirm_seconds = confirm_seconds
        self._channel: AbstractChannel | None = None
        self._refused = False

    def covers(self, delays_seconds: Iterable[int]) -> bool:
        """Whether the retry queues of these delays are declared; those that are not will be by ``prepare``."""
        self._delays |= frozenset(delays_seconds)
        return self._declared == self._delays

    async def prepare(self) -> None:
        """Have the topology and an open, unblocked channel. Raises BrokerUnavailable."""
        if self._channel is None or self._channel.is_closed:
            await self.close()
        elif self._refused:
            await self._close_channel(self._channel)
        if self._declared != self._delays:
            delays = self._delays
            await topology.declare(self._connection, work_queues=self._work_queues, delays_seconds=sorted(delays))
            self._declared = delays
        if self._channel is None:
            self._channel = await self._connection.open_channel(publisher_confirms=True)
        await self._connection.wait_unblocked(self._confirm_seconds)

    async def publish(self, messages: Sequence[Message]) -> list[Receipt]:
        """Publish all and wait for their confirms; the receipts stand in the order of the messages.

        When an answer is missing after the bound the connection is given up: a late confirm must not be taken for
        that of a later message.
        """
        if self._channel is None:
            raise BrokerUnavailable("RabbitMQ is not connected")
        channel = await self._channel.get_underlay_channel()
        assert isinstance(channel, aiormq.Channel)
        confirms = []
        try:
            async with asyncio.timeout(self._confirm_seconds):
                confirms = await _send(channel, messages)
                await asyncio.wait(confirms)
        except BROKER_ERRORS:
            # Each confirm says below what became of it; what has none is unknown.
            pass
        finally:
            for message in messages:
                channel.message_id_delivery_tag.pop(message.message_id, None)
        receipts = [_receipt(confirm) for confirm in confirms] or [_UNSENT] * len(messages)
        if any(receipt.fate is Fate.UNKNOWN for receipt in receipts):
            await self.close()
        self._refused = any(receipt.fate is Fate.REFUSED for receipt in receipts)
        return receipts

    async def _close_channel(self, channel: AbstractChannel) -> None:
        """After a refusal: a quorum queue does not tell the channels that it refused when its limit is lifted."""
        self._channel, self._refused = None, False
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await channel.close()
        except BROKER_ERRORS:
            await self.close()

    async def close(self) -> None:
        self._channel, self._declared = None, None
        await self._connection.close()


async def _send(channel: aiormq.Channel, messages: Sequence[Message]) -> list[asyncio.Future[object]]:
    """Write all messages as one run of frames; returns a future per message that its confirm settles.

    This is ``aiormq.Channel.basic_publish`` without a task, a lock and a write for each message, which cost most of
    its time. Like there, the futures end with the channel.
    """
    confirms = []
    frames: list[Frame | ContentHeader | ContentBody] = []
    async with channel.lock:
        for message in messages:
            channel.delivery_tag += 1
            confirm: asyncio.Future[object] = channel.create_future()
            channel.confirmations[channel.delivery_tag] = confirm
            # By this a returned message finds its confirm.
            channel.message_id_delivery_tag[message.message_id] = channel.delivery_tag
            confirms.append(confirm)
            frames += _frames(message, channel.max_content_size)
        await channel.write_queue.put(ChannelFrame.marshall(channel.number, frames))
    return confirms


def _frames(message: Message, largest: int) -> list[Frame | ContentHeader | ContentBody]:
    properties = Basic.Properties(
        delivery_mode=PERSISTENT,
        message_id=message.message_id,
        content_type="application/json",
        headers=dict(message.headers) or None,
    )
    return [
        Basic.Publish(exchange=message.exchange, routing_key=message.routing_key, mandatory=True),
        ContentHeader(properties=properties, body_size=len(message.body)),
        # A frame over the negotiated size would cost the connection.
        *(ContentBody(message.body[start : start + largest]) for start in range(0, len(message.body), largest)),
    ]


def _receipt(confirm: asyncio.Future[object]) -> Receipt:
    if not confirm.done() or confirm.cancelled():
        return _UNSENT
    match confirm.exception():
        case None:
            return _CONFIRMED
        case PublishError() as error:
            return Receipt(Fate.RETURNED, f"no queue takes it: {describe(error)}")
        case DeliveryError():
            return _REFUSED
        case error:
            return Receipt(Fate.UNKNOWN, describe(error))
