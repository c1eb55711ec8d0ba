"""Sends out tasks that fell due: retries with a delay of their own, which no retry queue keeps."""

from typing import Final

import structlog

from aftercommit.db import schedule
from aftercommit.db.database import Database
from aftercommit.runtime.notifier import OutboxNotifier

log = structlog.get_logger(__name__)

BATCH: Final = 1_000
SHORTEST_SECONDS: Final = 0.01


class Scheduler:
    """Any number may run: each takes other tasks, and passes over those that are locked elsewhere."""

    def __init__(self, database: Database, notifier: OutboxNotifier, *, interval_seconds: float) -> None:
        self._database = database
        self._notifier = notifier
        self._interval_seconds = interval_seconds

    async def run_once(self) -> float:
        """Send a batch. Returns 0 after a full one, else the seconds until the next task falls due, at most the
        interval."""
        async with self._database.transaction() as fetch:
            sent = await schedule.send_due(fetch, limit=BATCH)
            soonest = await schedule.seconds_until_next(fetch)
        if sent:
            self._notifier.send()
            log.debug("tasks_due", sent=sent)
        if sent == BATCH:
            return 0
        return (
            self._interval_seconds if soonest is None else min(max(soonest, SHORTEST_SECONDS), self._interval_seconds)
        )
