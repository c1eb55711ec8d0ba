"""Tells the broker which deliveries of a channel are done with, many in one frame."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import aiormq.abc
import structlog

from aftercommit.broker.acknowledgements import Acknowledgements
from aftercommit.broker.broker_errors import BROKER_ERRORS, describe
from aftercommit.broker.connection import CALL_SECONDS, CLOSE_SECONDS

log = structlog.get_logger(__name__)

GATHER_SECONDS: Final = 0.01
"""Acknowledgements wait so long for others. Each one sent apart costs the queue an entry in its log; waiting costs
nothing, since only the prefetch waits for them."""


class Acknowledger:
    """Of one channel. Nothing is sent once the channel is lost or ``close`` was called: the broker takes back what is
    unacknowledged. On a lost channel an answer would cost the whole connection."""

    def __init__(self, channel: aiormq.abc.AbstractChannel, *, lost: asyncio.Event) -> None:
        """``lost`` is set here too, when the channel takes nothing more."""
        self._channel = channel
        self._lost = lost
        self._closing = False
        self._pending = Acknowledgements()
        self._loop = asyncio.get_running_loop()
        self._gathering: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None
        self.most_pending = 1
        """So many pending ones are sent without waiting for more."""

    def acknowledge(self, tag: int) -> None:
        """The delivery is done with; the broker hears of it after GATHER_SECONDS at the latest."""
        if self._closing or self._lost.is_set():
            return
        self._pending.done(tag)
        if len(self._pending) >= self.most_pending:
            self._start_sending()
        elif self._gathering is None:
            self._gathering = self._loop.call_later(GATHER_SECONDS, self._start_sending)

    async def hand_back(self, tag: int) -> None:
        """The broker is to give the delivery to somebody else. Does not wait until that is on the wire."""
        if not self._closing:
            await self._send(lambda: self._channel.basic_nack(tag, requeue=True, wait=False))
            # Not before: an acknowledgement of all up to a later tag must not overtake it.
            self._pending.answered(tag)

    async def close(self) -> None:
        """Send what is pending, as far as the channel takes it, and nothing more."""
        self._closing = True
        if self._pending:
            self._start_sending()
        if self._sending is not None:
            await asyncio.wait([self._sending], timeout=CLOSE_SECONDS)
            self._sending.cancel()

    def _start_sending(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_pending())

    async def _send_pending(self) -> None:
        while self._pending:  # more came while a full connection kept us waiting
            for tag, multiple in self._pending.take():
                await self._acknowledge(tag, multiple=multiple)

    async def _acknowledge(self, tag: int, *, multiple: bool) -> None:
        await self._send(lambda: self._channel.basic_ack(tag, multiple, wait=False))

    async def _send(self, call: Callable[[], Awaitable[object]]) -> None:
        if self._lost.is_set():
            return
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await call()
        except BROKER_ERRORS as error:
            self._lost.set()
            log.debug("answer_failed", channel=self._channel.number, error=describe(error))
