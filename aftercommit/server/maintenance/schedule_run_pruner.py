"""Deletes entries of schedules' accounts whose retention is over, in bounded batches."""

from typing import Final

import structlog

from aftercommit.db import schedule_runs
from aftercommit.db.database import Database

log = structlog.get_logger(__name__)

BATCH: Final = 5_000


class ScheduleRunPruner:
    """Any number may run: each takes other entries."""

    def __init__(self, database: Database, *, retention_seconds: float, interval_seconds: float) -> None:
        self._database = database
        self._retention_seconds = retention_seconds
        self._interval_seconds = interval_seconds

    async def run_once(self) -> float:
        """Delete a batch. Returns the seconds until the next: 0 after a full one."""
        pruned = await schedule_runs.prune(self._database.fetch, retention_seconds=self._retention_seconds, limit=BATCH)
        if pruned:
            log.info("schedule_runs_pruned", count=pruned)
        return 0 if pruned == BATCH else self._interval_seconds
