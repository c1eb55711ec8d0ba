"""Sends out tasks that fall due: scheduled ones, and retries with a delay of their own, which no retry queue keeps."""

import asyncio
from datetime import timedelta
from typing import Final

import structlog

from aftercommit.db import schedule
from aftercommit.db.database import Database
from aftercommit.runtime.notifier import Notifier

log = structlog.get_logger(__name__)

BATCH: Final = 1_000
SHORTEST_SECONDS: Final = 0.01

LOOKS_BACK: Final = timedelta(minutes=1)
"""Before the last round. What fell due earlier was sent out then, or was locked or uncommitted for so long: the sweep
finds that."""

SWEEP_SECONDS: Final = 20.0


class Scheduler:
    """Any number may run: each takes other tasks, and passes over those that are locked elsewhere."""

    def __init__(self, database: Database, notifier: Notifier, *, interval_seconds: float) -> None:
        self._database = database
        self._notifier = notifier
        self._interval_seconds = interval_seconds
        self.wake: Final = asyncio.Event()
        """Set when something was committed that falls due soon."""
        self._looked_at: float | None = None

    async def run_once(self) -> float:
        """Send a batch. Returns 0 after a full one, else the seconds until the next task falls due, at most the
        interval."""
        now = asyncio.get_running_loop().time()
        within = None if self._looked_at is None else LOOKS_BACK + timedelta(seconds=now - self._looked_at)
        if await self._send(within=within) == BATCH:
            return 0
        self._looked_at = now
        soonest = await schedule.seconds_until_next(self._database.fetch)
        return (
            self._interval_seconds if soonest is None else min(max(soonest, SHORTEST_SECONDS), self._interval_seconds)
        )

    async def sweep(self) -> float:
        """Send a batch of whatever is due, however long it has been. After a long transaction this reads past all that
        was sent since."""
        return 0 if await self._send(within=None) == BATCH else SWEEP_SECONDS

    async def _send(self, *, within: timedelta | None) -> int:
        sent = await schedule.send_due(self._database.fetch, limit=BATCH, within=within)
        if sent:
            self._notifier.outbox()
            log.debug("tasks_due", sent=sent)
        return sent
