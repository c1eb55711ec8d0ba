"""Consuming one work queue: deliveries come in through a callback, and go back or are acknowledged one by one."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import aiormq.abc
import structlog
from aio_pika.abc import AbstractChannel

from app.broker.connection import BROKER_ERRORS, CALL_SECONDS, BrokerConnection, describe
from app.errors import BrokerUnavailable
from app.queues import WorkQueue

log = structlog.get_logger(__name__)


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

    async def acknowledge(self) -> None:
        """The message is done with. If the channel died it comes again, and then it is stale."""
        await self._subscription.answer(self._tag, done=True)

    async def hand_back(self) -> None:
        """Let the broker give the message to somebody else. If the channel died it does so anyway."""
        await self._subscription.answer(self._tag, done=False)


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

    async def answer(self, tag: int, *, done: bool) -> None:
        """Acknowledge a delivery, or hand it back when it is not ``done``, without waiting until it is on the wire.

        Nothing is sent on a channel that is lost or being closed: it would cost the whole connection, and the broker
        takes its messages back anyway. A channel that takes nothing more is lost.
        """
        if self._closing or self.lost.is_set():
            return
        try:
            channel = await self._underlay()
            async with asyncio.timeout(CALL_SECONDS):
                if done:
                    await channel.basic_ack(tag, wait=False)
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
        if self._channel is not None and not self._channel.is_closed:
            try:
                async with asyncio.timeout(2):
                    await self._channel.close()
            except BROKER_ERRORS as error:
                log.debug("channel_close_failed", work_queue=str(self._work_queue), error=describe(error))

    async def _underlay(self) -> aiormq.abc.AbstractChannel:
        if self._channel is None or self._channel.is_closed:
            raise BrokerUnavailable(f"{self._work_queue} is not open")
        return await self._channel.get_underlay_channel()
