"""Deletes idempotency keys whose time is over, in bounded batches."""

from typing import Final

import structlog

from aftercommit.db import idempotency
from aftercommit.db.database import Database

log = structlog.get_logger(__name__)

BATCH: Final = 5_000


class IdempotencyKeyPruner:
    """Any number may run: each takes other keys."""

    def __init__(self, database: Database, *, interval_seconds: float) -> None:
        self._database = database
        self._interval_seconds = interval_seconds

    async def run_once(self) -> float:
        """Delete a batch. Returns the seconds until the next: 0 after a full one."""
        async with self._database.transaction() as fetch:
            pruned = await idempotency.prune(fetch, limit=BATCH)
        if pruned:
            log.info("idempotency_keys_pruned", count=pruned)
        return 0 if pruned == BATCH else self._interval_seconds
