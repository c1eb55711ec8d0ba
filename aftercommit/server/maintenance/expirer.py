"""Ends waiting tasks whose deadline has passed. What runs then is cut by its worker."""

from datetime import timedelta
from typing import Final

import structlog

from aftercommit.db import expiry
from aftercommit.db.database import Database
from aftercommit.server.maintenance.due_walk import BATCH, DueWalk

log = structlog.get_logger(__name__)

INTERVAL_SECONDS: Final = 1.0
"""A deadline that was submitted since the last round may pass sooner."""


class Expirer(DueWalk):
    """Takes a task by ending it. One that runs is not taken: the sweep finds it when it waits again."""

    def __init__(self, database: Database) -> None:
        super().__init__(interval_seconds=INTERVAL_SECONDS)
        self._database = database

    async def take(self, within: timedelta | None) -> int:
        expired = await expiry.expire(self._database.fetch, limit=BATCH, within=within)
        if expired:
            log.info("tasks_expired", count=expired)
        return expired

    async def seconds_until_next(self) -> float | None:
        return await expiry.seconds_until_next(self._database.fetch)
