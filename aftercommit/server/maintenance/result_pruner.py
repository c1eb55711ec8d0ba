"""Deletes the results of tasks that have a ``result_ttl_seconds``, in bounded batches."""

from datetime import datetime
from typing import Final

import structlog

from aftercommit.db import results
from aftercommit.db.database import Database

log = structlog.get_logger(__name__)

BATCH: Final = 500


class ResultPruner:
    """Any number may run: each takes other tasks, and passes over those that are locked elsewhere.

    A round goes through all results that are due, each batch from where the last one ended, and every round begins
    anew: it finds what was locked.
    """

    def __init__(self, database: Database, *, tasks_per_second: float, interval_seconds: float) -> None:
        self._database = database
        self._tasks_per_second = tasks_per_second
        self._interval_seconds = interval_seconds
        self._reached: datetime | None = None

    async def run_once(self) -> float:
        """Delete a batch. Returns the seconds until the next: after a full one so many that the rate is kept."""
        deleted, reached = await results.delete_old(self._database.fetch, since=self._reached, limit=BATCH)
        if deleted:
            log.info("results_deleted", count=deleted)
        self._reached = reached if deleted == BATCH else None
        return BATCH / self._tasks_per_second if deleted == BATCH else self._interval_seconds
