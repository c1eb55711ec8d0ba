"""Sends out what fell due: retries with a delay of their own, which no retry queue keeps."""

from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db import schedule
from app.db.engine import transaction
from app.db.signals import OutboxSignal

log = structlog.get_logger(__name__)

BATCH: Final = 1_000


class Scheduler:
    """Any number may run: each takes other tasks."""

    def __init__(self, engine: AsyncEngine, signal: OutboxSignal, *, interval_seconds: float) -> None:
        self._engine = engine
        self._signal = signal
        self._interval_seconds = interval_seconds

    async def tick(self) -> float:
        """Send a batch. Returns 0 after a full one, else the time until the next task falls due or the interval."""
        async with transaction(self._engine) as connection:
            sent = await schedule.send_due(connection, limit=BATCH)
            soonest = await schedule.seconds_until_next(connection)
        if sent:
            self._signal.send()
            log.debug("tasks_due", sent=sent)
        if sent == BATCH:
            return 0
        return self._interval_seconds if soonest is None else min(max(soonest, 0.01), self._interval_seconds)
