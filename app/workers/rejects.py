"""Messages that are not ours go to the dead letters with their reason, through the outbox like everything else."""

import asyncio
from typing import Final

import structlog

from app.broker.consumer import Delivery
from app.db import outbox
from app.db.link import Link
from app.db.signals import OutboxSignal
from app.process import poll

log = structlog.get_logger(__name__)

IDLE_SECONDS: Final = 60.0


class Rejects:
    def __init__(self, link: Link, signal: OutboxSignal) -> None:
        self._link = link
        self._signal = signal
        self._waiting: list[tuple[Delivery, str]] = []
        self._wake = asyncio.Event()

    def add(self, delivery: Delivery, reason: str) -> None:
        """Take a delivery that ``decode`` refused, and why."""
        self._waiting.append((delivery, reason))
        self._wake.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Write them down. What is not written when the worker stops was not acknowledged and comes again."""
        async with self._link:
            await poll("rejects", self._tick, stopping=stopping, wake=self._wake)

    async def _tick(self) -> float:
        while self._waiting:
            delivery, reason = self._waiting[0]
            await outbox.add_dead_message(
                self._link.fetch, work_queue=str(delivery.work_queue), reason=reason, body=delivery.body
            )
            self._waiting.pop(0)
            self._signal.send()
            delivery.acknowledge()
            log.warning("message_refused", work_queue=str(delivery.work_queue), reason=reason)
        return IDLE_SECONDS
