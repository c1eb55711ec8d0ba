"""Wakes relays, scheduler and workers after commits, off the path of what committed.

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


class Notifier:
    """Tells other processes what was committed for them. Nothing here waits; calls made while a NOTIFY is under way
    share the next one."""

    def __init__(self, connection: DatabaseConnection) -> None:
        self._connection = connection
        self._wake = asyncio.Event()
        self._channels: set[str] = set()

    def outbox(self) -> None:
        """There are rows for the relays."""
        self._send(notifications.OUTBOX_CHANNEL)

    def due(self) -> None:
        """Something falls due before the scheduler may look again."""
        self._send(notifications.DUE_CHANNEL)

    def cancels(self) -> None:
        """Running tasks are to be cancelled by their workers."""
        self._send(notifications.CANCEL_CHANNEL)

    def types(self) -> None:
        """Task types were declared, or declared anew."""
        self._send(notifications.TYPES_CHANNEL)

    def queues(self) -> None:
        """A queue was made, changed, paused or deleted."""
        self._send(notifications.QUEUES_CHANNEL)

    def parked(self) -> None:
        """Tasks wait for workers that know their types."""
        self._send(notifications.PARKED_CHANNEL)

    def _send(self, channel: str) -> None:
        self._channels.add(channel)
        self._wake.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Notify until ``stopping``, and once more for what was committed last."""
        async with self._connection:
            await poll("notify", self._tick, stopping=stopping, wake=self._wake)
            with suppress(TimeoutError, DatabaseUnavailable, DatabaseTimeout):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._tick()

    async def _tick(self) -> float:
        if self._channels:
            channels, self._channels = self._channels, set()
            try:
                await notifications.notify(self._connection.fetch, channels)
            except BaseException:
                self._channels |= channels
                raise
        return IDLE_SECONDS
