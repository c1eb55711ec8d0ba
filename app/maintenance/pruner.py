"""Deletes idempotency keys whose time is over, in bounded batches."""

from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db import idempotency
from app.db.engine import transaction

log = structlog.get_logger(__name__)

BATCH: Final = 5_000


class Pruner:
    def __init__(self, engine: AsyncEngine, *, interval_seconds: float) -> None:
        self._engine = engine
        self._interval_seconds = interval_seconds

    async def tick(self) -> float:
        async with transaction(self._engine) as connection:
            pruned = await idempotency.prune(connection, limit=BATCH)
        if pruned:
            log.info("idempotency_keys_pruned", count=pruned)
        return 0 if pruned == BATCH else self._interval_seconds
