"""Publishing with confirms: a batch goes out pipelined, and each message comes back with what became of it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import aiormq
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelClosed, ChannelNotFoundEntity

from aftercommit.broker import receipt
from aftercommit.broker.broker_errors import BROKER_ERRORS
from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.declaration import Declarer
from aftercommit.broker.frames import send
from aftercommit.broker.message import DELIVERY_MODES, Message
from aftercommit.broker.receipt import UNANSWERED, Fate, Receipt
from aftercommit.core.errors import BrokerUnavailable

CHECK_SECONDS: Final = 10.0
"""Queues that cannot be used are looked at again after so long."""


class Publisher:
    """Publishes on a connection of its own, bounded from outside: no call outlasts ``confirm_seconds`` by much.

    After (re)connecting it declares the topology first, so that a broker that lost everything is usable at once. One
    caller at a time.
    """

    def __init__(self, connection: BrokerConnection, declarer: Declarer, *, confirm_seconds: float) -> None:
        """``declarer`` is for this publisher alone."""
        self._connection = connection
        self._declarer = declarer
        self._delivery_mode = DELIVERY_MODES[declarer.queue_type]
        self._declared_at: float | None = None
        self._confirm_seconds = confirm_seconds
        self._channel: AbstractChannel | None = None
        self._refused = False

    @property
    def problems(self) -> Mapping[str, str]:
        """Queues that nothing may be published to, and why."""
        return self._declarer.report.problems

    def covers(self, delays_seconds: Iterable[int]) -> bool:
        """Whether the retry queues of these delays are declared; those that are not will be by ``prepare``."""
        if not self._declarer.covers(delays_seconds):
            self._declared_at = None
        return self._declared_at is not None

    async def prepare(self) -> None:
        """Have the topology and an open, unblocked channel. Raises BrokerUnavailable."""
        if self._channel is not None and self._channel.is_closed:
            await self.close()
        elif self._refused:
            await self._close_channel()
        await self._declare()
        if self._channel is None:
            self._channel = await self._connection.open_channel(publisher_confirms=True)
        await self._connection.wait_unblocked(self._confirm_seconds)

    async def _declare(self) -> None:
        now = asyncio.get_running_loop().time()
        due = self._declared_at is None or (self.problems and now - self._declared_at >= CHECK_SECONDS)
        if due:
            await self._declarer.declare()
            self._declared_at = now
        elif not self._declarer.is_complete:
            await self._declarer.declare_new()

    async def publish(self, messages: Sequence[Message]) -> list[Receipt]:
        """Publish all and wait for their confirms; the receipts stand in the order of the messages.

        When the broker closes the channel over a message, that one is found by halves, and the others are published.
        When an answer is missing after the bound the connection is given up: a late confirm must not be taken for
        that of a later message.
        """
        if self._channel is None:
            raise BrokerUnavailable("RabbitMQ is not connected.")
        receipts: dict[str, Receipt] = {}
        try:
            async with asyncio.timeout(self._confirm_seconds):
                await self._publish(messages, receipts)
        except (BrokerUnavailable, *BROKER_ERRORS):
            pass  # what has no receipt is unknown
        found = [receipts.get(message.message_id, UNANSWERED) for message in messages]
        if any(one.fate is Fate.UNKNOWN for one in found):
            await self.close()
        self._refused = any(one.fate is Fate.REFUSED for one in found)
        return found

    async def _publish(self, messages: Sequence[Message], receipts: dict[str, Receipt]) -> None:
        """Put the receipts into ``receipts`` by message id, as far as they come before the caller's bound."""
        suspects: list[Sequence[Message]] = [messages]
        while suspects:
            unsettled, error = await self._try(suspects.pop(), receipts)
            if error is None:
                if any(one.fate is Fate.UNKNOWN for one in receipts.values()):
                    return  # the connection is lost
            elif _share_the_blame(unsettled, error):
                receipts.update(dict.fromkeys((one.message_id for one in unsettled), receipt.of_culprit(error)))
            else:
                suspects += reversed(_split(unsettled))

    async def _try(
        self, messages: Sequence[Message], receipts: dict[str, Receipt]
    ) -> tuple[list[Message], ChannelClosed | None]:
        """Publish ``messages`` in one run. When the broker closes the channel over one of them: those that it may be,
        and the broker's words."""
        channel = await self._open_channel()
        sent: list[asyncio.Future[object] | Receipt] = []
        try:
            sent = await send(channel, messages, delivery_mode=self._delivery_mode)
            if confirms := [one for one in sent if not isinstance(one, Receipt)]:
                await asyncio.wait(confirms)
        finally:
            for message in messages:
                channel.message_id_delivery_tag.pop(message.message_id, None)
            unsettled, error = _settle(messages, sent, receipts)
        if error is not None:
            # Closed. An exchange may have vanished, or a right been taken away.
            self._channel, self._declared_at = None, None
        return unsettled, error

    async def _open_channel(self) -> aiormq.Channel:
        if self._channel is None or self._channel.is_closed:
            self._channel = await self._connection.open_channel(publisher_confirms=True)
        channel = await self._channel.get_underlay_channel()
        assert isinstance(channel, aiormq.Channel)
        return channel

    async def _close_channel(self) -> None:
        """After a refusal: a quorum queue does not tell the channels that it refused when its limit is lifted."""
        channel, self._channel, self._refused = self._channel, None, False
        if channel is not None:
            await self._connection.close_channel(channel)

    async def close(self) -> None:
        self._channel, self._declared_at = None, None
        await self._connection.close()


def _settle(
    messages: Sequence[Message], sent: Sequence[asyncio.Future[object] | Receipt], receipts: dict[str, Receipt]
) -> tuple[list[Message], ChannelClosed | None]:
    unsettled: list[Message] = []
    error: ChannelClosed | None = None
    for message, one in zip(messages, sent, strict=False):
        outcome = one if isinstance(one, Receipt) else receipt.read(one)
        if isinstance(outcome, Receipt):
            receipts[message.message_id] = outcome
        else:
            unsettled.append(message)
            error = outcome
    return unsettled, error


def _share_the_blame(messages: Sequence[Message], error: ChannelClosed) -> bool:
    """Whether all of ``messages`` are what the broker closed the channel over: an exchange that does not exist is
    missing for all that go there."""
    same_exchange = len({message.exchange for message in messages}) == 1
    return len(messages) == 1 or (same_exchange and isinstance(error, ChannelNotFoundEntity))


def _split(messages: Sequence[Message]) -> list[Sequence[Message]]:
    """By the first exchange and the others, where there are others; else by halves."""
    first = [message for message in messages if message.exchange == messages[0].exchange]
    others = [message for message in messages if message.exchange != messages[0].exchange]
    middle = len(messages) // 2
    return [first, others] if others else [messages[:middle], messages[middle:]]
