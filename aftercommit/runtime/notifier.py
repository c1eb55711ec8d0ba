"""Wake-up calls between processes: one coalesced NOTIFY after commits, off their path.

A NOTIFY inside each transaction would take a lock of the whole cluster at its commit. A lost call costs one polling
interval, nothing more.
"""

import asyncio
from contextlib import suppress
from typing import Final

import structlog

from aftercommit.core.errors import DatabaseTimeout, DatabaseUnavailable
from aftercommit.db import notifications
from aftercommit.db.database import CLOSE_SECONDS, DatabaseConnection
from aftercommit.runtime.poll import poll

log = structlog.get_logger(__name__)

IDLE_SECONDS: Final = 60.0


class OutboxNotifier:
    """Tells the relays that rows were committed. ``send`` never waits; calls made meanwhile share one NOTIFY."""

    def __init__(self, connection: DatabaseConnection) -> None:
        self._connection = connection
        self._pending = asyncio.Event()
        self._wanted = False

    def send(self) -> None:
        self._wanted = True
        self._pending.set()

    async def run(self, stopping: asyncio.Event) -> None:
        async with self._connection:
            await poll("notifier", self._tick, stopping=stopping, wake=self._pending)
            # For what was committed last. A lost call costs little, a stop that hangs more.
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._tick()

    async def _tick(self) -> float:
        if self._wanted:
            self._wanted = False
            try:
                await notifications.notify_outbox(self._connection.fetch)
            except (DatabaseUnavailable, DatabaseTimeout) as error:
                log.debug("outbox_signal_lost", error=str(error))
        return IDLE_SECONDS
