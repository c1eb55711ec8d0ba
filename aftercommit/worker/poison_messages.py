"""Messages that are not ours become dead letters with their reason, through the outbox like everything else."""

import asyncio
from typing import Final

import structlog

from aftercommit.broker.consumer import Delivery
from aftercommit.db import outbox
from aftercommit.db.database import DatabaseConnection
from aftercommit.runtime.notifier import Notifier
from aftercommit.runtime.poll import poll

log = structlog.get_logger(__name__)

IDLE_SECONDS: Final = 60.0


class PoisonMessages:
    def __init__(self, connection: DatabaseConnection, notifier: Notifier) -> None:
        self._connection = connection
        self._notifier = notifier
        self._waiting: list[tuple[Delivery, str]] = []
        self._wake = asyncio.Event()

    def add(self, delivery: Delivery, reason: str) -> None:
        """Keep a delivery that ``message.decode`` refused, and the reason."""
        self._waiting.append((delivery, reason))
        self._wake.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Write poison messages to the outbox and acknowledge them. One that is not written when the worker stops is
        delivered again."""
        async with self._connection:
            await poll("poison_messages", self._tick, stopping=stopping, wake=self._wake)

    async def _tick(self) -> float:
        while self._waiting:
            delivery, reason = self._waiting[0]
            await outbox.add_dead_message(
                self._connection.fetch, work_queue=str(delivery.work_queue), reason=reason, body=delivery.body
            )
            self._waiting.pop(0)
            self._notifier.outbox()
            delivery.acknowledge()
            log.warning("message_refused", work_queue=str(delivery.work_queue), reason=reason)
        return IDLE_SECONDS
