"""Wakes the relays after commits, off the path of what committed.

A NOTIFY inside each transaction would take a lock of the whole cluster at its commit. A lost one costs a polling
interval, nothing more.
"""

import asyncio
from contextlib import suppress
from typing import Final

from aftercommit.core.errors import DatabaseTimeout, DatabaseUnavailable
from aftercommit.db import notifications
from aftercommit.db.database import CLOSE_SECONDS, DatabaseConnection
from aftercommit.runtime.poll import poll

IDLE_SECONDS: Final = 60.0


class OutboxNotifier:
    """Tells the relays that rows were committed. ``send`` never waits; calls made while a NOTIFY is under way share
    the next one."""

    def __init__(self, connection: DatabaseConnection) -> None:
        self._connection = connection
        self._wake = asyncio.Event()

    def send(self) -> None:
        self._wake.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Notify until ``stopping``, and once more for what was committed last."""
        async with self._connection:
            await poll("notify", self._tick, stopping=stopping, wake=self._wake)
            with suppress(TimeoutError, DatabaseUnavailable, DatabaseTimeout):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._tick()

    async def _tick(self) -> float:
        # One more than was asked for, each IDLE_SECONDS, is cheaper than to know whether one was.
        await notifications.notify_outbox(self._connection.fetch)
        return IDLE_SECONDS
