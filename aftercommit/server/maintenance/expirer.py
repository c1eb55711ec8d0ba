"""Ends waiting tasks whose deadline has passed. What runs then is cut by its worker."""

import asyncio
from datetime import timedelta
from typing import Final

import structlog

from aftercommit.db import expiry
from aftercommit.db.database import Database

log = structlog.get_logger(__name__)

BATCH: Final = 1_000
SHORTEST_SECONDS: Final = 0.01

INTERVAL_SECONDS: Final = 1.0
"""A deadline that was submitted since the last round may pass sooner."""

LOOKS_BACK: Final = timedelta(minutes=1)
"""Before the last round. What expired earlier was ended then, or was locked, uncommitted or running for so long: the
sweep finds that."""

SWEEP_SECONDS: Final = 20.0


class Expirer:
    """Any number may run: each takes other tasks, and passes over those that are locked elsewhere."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looked_at: float | None = None

    async def run_once(self) -> float:
        """End a batch. Returns 0 after a full one, else the seconds until the next deadline, at most the interval."""
        now = asyncio.get_running_loop().time()
        within = None if self._looked_at is None else LOOKS_BACK + timedelta(seconds=now - self._looked_at)
        if await self._expire(within=within) == BATCH:
            return 0
        self._looked_at = now
        soonest = await expiry.seconds_until_next(self._database.fetch)
        return INTERVAL_SECONDS if soonest is None else min(max(soonest, SHORTEST_SECONDS), INTERVAL_SECONDS)

    async def sweep(self) -> float:
        """End a batch of whatever has expired, however long ago. After a long transaction this reads past all that
        ended since and had a deadline."""
        return 0 if await self._expire(within=None) == BATCH else SWEEP_SECONDS

    async def _expire(self, *, within: timedelta | None) -> int:
        expired = await expiry.expire(self._database.fetch, limit=BATCH, within=within)
        if expired:
            log.info("tasks_expired", count=expired)
        return expired
