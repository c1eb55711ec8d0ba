"""Cancels what this worker runs and clients want cancelled.

The API marks a running task and sends a NOTIFY; every worker that hears it looks which of its own tasks are marked.
Without a NOTIFY it looks too, but seldom: one may be lost.
"""

import asyncio
from typing import Final

import structlog

from aftercommit.core.outcomes import CancelReason
from aftercommit.db import cancels, notifications
from aftercommit.db.database import DatabaseConnection, Fetch
from aftercommit.runtime.poll import first_of, poll
from aftercommit.worker.slots import Slots

log = structlog.get_logger(__name__)

GATHER_SECONDS: Final = 0.02
"""After a NOTIFY: many cancels that come at once share a look."""

AGAIN_SECONDS: Final = 0.4
"""After a NOTIFY it looks a second time: the task may have been claimed already, but not have been started."""

INTERVAL_SECONDS: Final = 2.0


class CancelWatcher:
    """While nothing is cancelled this costs a connection that listens, and a statement in INTERVAL_SECONDS."""

    def __init__(self, connection: DatabaseConnection, slots: Slots) -> None:
        self._connection = connection
        self._slots = slots
        self._called = asyncio.Event()

    async def run(self, stopping: asyncio.Event) -> None:
        async def hold_connection() -> float:
            async with self._connection.listening(notifications.CANCEL_CHANNEL, self._called.set) as fetch:
                self._called.set()  # something may have been marked while nobody listened
                while not stopping.is_set():
                    await self._look(fetch, stopping)
            return 0

        await poll("watch_cancels", hold_connection, stopping=stopping)

    async def _look(self, fetch: Fetch, stopping: asyncio.Event) -> None:
        await first_of(self._called, stopping, timeout_seconds=INTERVAL_SECONDS)
        called = self._called.is_set()
        if called:
            await first_of(stopping, timeout_seconds=GATHER_SECONDS)
            self._called.clear()
        await self._cancel_marked(fetch)
        if called:
            await first_of(self._called, stopping, timeout_seconds=AGAIN_SECONDS)
            if not self._called.is_set():
                await self._cancel_marked(fetch)

    async def _cancel_marked(self, fetch: Fetch) -> None:
        running = {(attempt.task.id, attempt.task.attempt): attempt for attempt in self._slots.uncancelled}
        if not running:
            await notifications.probe(fetch)
            return
        marked = await cancels.find_marked(fetch, [(*key, each.task.worker) for key, each in running.items()])
        for key in marked:
            running[key].cancel(CancelReason.REQUESTED)
        if marked:
            log.info("attempts_cancelled", count=len(marked))
