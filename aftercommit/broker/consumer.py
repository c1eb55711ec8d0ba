"""Consuming one work queue: deliveries come in through a callback, and go back or are acknowledged."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import aiormq.abc
import structlog
from aio_pika.abc import AbstractChannel

from aftercommit.broker.acknowledgements import Acknowledgements
from aftercommit.broker.broker_errors import BROKER_ERRORS, describe
from aftercommit.broker.connection import CALL_SECONDS, CLOSE_SECONDS, BrokerConnection
from aftercommit.core.errors import BrokerUnavailable
from aftercommit.core.queues import WorkQueue

log = structlog.get_logger(__name__)

GATHER_SECONDS: Final = 0.01
"""Acknowledgements wait so long for others. Each one told apart costs the queue an entry in its log; waiting costs
nothing, since nobody waits for them but the prefetch."""


class Delivery:
    """A message that the broker lent us. ``received_at`` is on the event loop's clock, in seconds."""

    __slots__ = ("_subscription", "_tag", "body", "received_at", "work_queue")

    def __init__(
        self, subscription: "Subscription", tag: int, *, body: bytes, work_queue: WorkQueue, received_at: float
    ) -> None:
        self._subscription = subscription
        self._tag = tag
        self.body = body
        self.work_queue = work_queue
        self.received_at = received_at

    def acknowledge(self) -> None:
        """The message is done with; the broker hears of it soon. If the channel dies it comes again, and then it is
        stale."""
        self._subscription.acknowledge(self._tag)

    async def hand_back(self) -> None:
        """Let the broker give the message to somebody else. If the channel died it does so anyway."""
        await self._subscription.hand_back(self._tag)


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
        self._consumer_tag: str | None = None
        self._closing = False
        self._acknowledgements = Acknowledgements()
        self._enough = 1
        self._plenty = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None
        self.lost: Final = asyncio.Event()
        """Set when the channel closed or the broker ended the consumer; its deliveries are then void."""

    async def open(self) -> None:
        """Open the channel and look the queue up. Raises BrokerUnavailable, also when the queue does not exist."""
        self._channel = await self._connection.open_channel()
        self._channel.close_callbacks.add(self._on_lost)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                underlay = await self._channel.get_underlay_channel()
                underlay.on_consumer_cancel_callbacks.add(self._on_lost)
                await self._channel.declare_queue(str(self._work_queue), passive=True)
        except BROKER_ERRORS as error:
            raise BrokerUnavailable(f"{self._work_queue} cannot be consumed: {describe(error)}") from error

    def _on_lost(self, *_: Any) -> None:
        self.lost.set()

    async def consume(self, *, prefetch: int) -> None:
        """Start to receive, up to ``prefetch`` unacknowledged messages at a time. Raises BrokerUnavailable."""
        channel = await self._underlay()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await channel.basic_qos(prefetch_count=prefetch)
                # The tag is ours, so that a message that comes before consume-ok is not lost.
                reply = await channel.basic_consume(str(self._work_queue), self._receive)
        except BROKER_ERRORS as error:
            raise BrokerUnavailable(f"{self._work_queue} cannot be consumed: {describe(error)}") from error
        self._consumer_tag = reply.consumer_tag
        self._enough = max(1, prefetch // 4)

    async def _receive(self, message: aiormq.abc.DeliveredMessage) -> None:
        if message.delivery_tag is None:
            return
        self._on_delivery(
            Delivery(
                self,
                message.delivery_tag,
                body=message.body,
                work_queue=self._work_queue,
                received_at=asyncio.get_running_loop().time(),
            )
        )

    def acknowledge(self, tag: int) -> None:
        """Of a channel that is lost or being closed nothing is told: the broker takes its messages back anyway."""
        if self._closing or self.lost.is_set():
            return
        self._acknowledgements.done(tag)
        if len(self._acknowledgements) >= self._enough:
            self._plenty.set()
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())

    async def hand_back(self, tag: int) -> None:
        """As for ``acknowledge``, without waiting until it is on the wire."""
        if not self._closing:
            await self._answer(tag, done=False)
            # Not before: an answer that stands for this tag too must not overtake it.
            self._acknowledgements.answered(tag)

    async def _tell(self) -> None:
        """What gathers for a moment, or until the prefetch could run short of it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_SECONDS):
                await self._plenty.wait()
        self._plenty.clear()
        while self._acknowledgements:  # more of them while a full connection kept us waiting
            for tag, multiple in self._acknowledgements.take():
                await self._answer(tag, done=True, multiple=multiple)

    async def _answer(self, tag: int, *, done: bool, multiple: bool = False) -> None:
        """On a lost channel it would cost the whole connection. A channel that takes nothing more is lost."""
        if self.lost.is_set():
            return
        try:
            channel = await self._underlay()
            async with asyncio.timeout(CALL_SECONDS):
                if done:
                    await channel.basic_ack(tag, multiple, wait=False)
                else:
                    await channel.basic_nack(tag, requeue=True, wait=False)
        except (BrokerUnavailable, *BROKER_ERRORS) as error:
            self.lost.set()
            log.debug("answer_failed", work_queue=str(self._work_queue), error=describe(error))

    async def pause(self) -> None:
        """Stop to receive; deliveries on the way still arrive. Raises BrokerUnavailable."""
        tag, self._consumer_tag = self._consumer_tag, None
        if tag is None:
            return
        channel = await self._underlay()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await channel.basic_cancel(tag)
        except BROKER_ERRORS as error:
            raise BrokerUnavailable(f"{self._work_queue} cannot be paused: {describe(error)}") from error

    async def close(self) -> None:
        """Close the channel: the broker takes back what was not acknowledged."""
        self._closing = True
        if self._telling is not None:
            self._plenty.set()
            await asyncio.wait([self._telling], timeout=CLOSE_SECONDS)
            self._telling.cancel()
        if self._channel is not None and not self._channel.is_closed:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._channel.close()
            except BROKER_ERRORS as error:
                log.debug("channel_close_failed", work_queue=str(self._work_queue), error=describe(error))

    async def _underlay(self) -> aiormq.abc.AbstractChannel:
        if self._channel is None or self._channel.is_closed:
            raise BrokerUnavailable(f"{self._work_queue} is not open")
        return await self._channel.get_underlay_channel()
