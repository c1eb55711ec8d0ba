"""Consuming one work queue: deliveries come in through a callback, and go back or are acknowledged."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import aiormq.abc
from aio_pika.abc import AbstractChannel

from aftercommit.broker.acknowledger import Acknowledger
from aftercommit.broker.broker_errors import BROKER_ERRORS, sentence
from aftercommit.broker.connection import CALL_SECONDS, BrokerConnection
from aftercommit.core.errors import BrokerUnavailable
from aftercommit.core.queues import WorkQueue


class Delivery:
    """A message that the broker lent us. ``received_at`` is on the event loop's clock, in seconds."""

    of_broker = True

    __slots__ = ("_acknowledger", "_tag", "body", "received_at", "work_queue")

    def __init__(
        self, acknowledger: Acknowledger, tag: int, *, body: bytes, work_queue: WorkQueue, received_at: float
    ) -> None:
        self._acknowledger = acknowledger
        self._tag = tag
        self.body = body
        self.work_queue = work_queue
        self.received_at = received_at

    def acknowledge(self) -> None:
        """The message is done with; the broker hears of it soon. If the channel dies the message comes again, and is
        stale then."""
        self._acknowledger.acknowledge(self._tag)

    async def hand_back(self) -> None:
        """Let the broker give the message to somebody else. If the channel died it does so anyway."""
        await self._acknowledger.hand_back(self._tag)


class Subscription:
    """Consumes ``work_queue`` on a channel of its own. ``on_delivery`` must only take the delivery in: closing a
    channel cancels callbacks under way."""

    def __init__(
        self, connection: BrokerConnection, work_queue: WorkQueue, *, on_delivery: Callable[[Delivery], None]
    ) -> None:
        self._connection = connection
        self._work_queue = work_queue
        self._on_delivery = on_delivery
        self._channel: AbstractChannel | None = None
        self._acknowledger: Acknowledger | None = None
        self._consumer_tag: str | None = None
        self.lost: Final = asyncio.Event()
        """Set when the channel closed or the broker ended the consumer; its deliveries are then void."""

    async def open(self) -> None:
        """Open the channel and look the queue up, of whatever type it is: a queue that is to be replaced can be
        drained. Raises BrokerUnavailable, also when the queue does not exist."""
        self._channel = await self._connection.open_channel()
        self._channel.close_callbacks.add(self._on_lost)
        async with self._call("opened"):
            channel = await self._underlay()
            channel.on_consumer_cancel_callbacks.add(self._on_lost)
            self._acknowledger = Acknowledger(channel, lost=self.lost)
            await self._channel.declare_queue(str(self._work_queue), passive=True)

    async def consume(self, *, prefetch: int) -> None:
        """Start to receive, up to ``prefetch`` unacknowledged messages at a time. Raises BrokerUnavailable."""
        channel = await self._underlay()
        async with self._call("consumed"):
            await channel.basic_qos(prefetch_count=prefetch)
            # The client chooses the consumer's tag, so that a message that comes before the reply finds its callback.
            reply = await channel.basic_consume(str(self._work_queue), self._receive)
        self._consumer_tag = reply.consumer_tag
        if self._acknowledger is not None:
            self._acknowledger.most_pending = max(1, prefetch // 4)

    async def pause(self) -> None:
        """Stop to receive; deliveries on the way still arrive. Raises BrokerUnavailable."""
        tag, self._consumer_tag = self._consumer_tag, None
        if tag is not None:
            channel = await self._underlay()
            async with self._call("paused"):
                await channel.basic_cancel(tag)

    async def close(self) -> None:
        """Close the channel: the broker takes back what was not acknowledged."""
        if self._acknowledger is not None:
            await self._acknowledger.close()
        if self._channel is not None:
            await self._connection.close_channel(self._channel)

    async def _receive(self, message: aiormq.abc.DeliveredMessage) -> None:
        if message.delivery_tag is None or self._acknowledger is None:
            return
        self._on_delivery(
            Delivery(
                self._acknowledger,
                message.delivery_tag,
                body=message.body,
                work_queue=self._work_queue,
                received_at=asyncio.get_running_loop().time(),
            )
        )

    def _on_lost(self, *_: Any) -> None:
        self.lost.set()

    async def _underlay(self) -> aiormq.abc.AbstractChannel:
        if self._channel is None or self._channel.is_closed:
            raise BrokerUnavailable(f"{self._work_queue} is not open.")
        return await self._channel.get_underlay_channel()

    @asynccontextmanager
    async def _call(self, what: str) -> AsyncIterator[None]:
        """Bounds the block, and says in its BrokerUnavailable what could not be done."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                yield
        except BROKER_ERRORS as error:
            raise BrokerUnavailable(f"{self._work_queue} cannot be {what}. {sentence(error)}") from error
