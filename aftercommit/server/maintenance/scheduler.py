"""Sends out tasks that fall due: scheduled ones, and retries with a delay of their own, which no retry queue keeps."""

import asyncio
from datetime import timedelta
from typing import Final

import structlog

from aftercommit.db import schedule
from aftercommit.db.database import Database
from aftercommit.runtime.notifier import Notifier
from aftercommit.server.maintenance.due_walk import BATCH, DueWalk

log = structlog.get_logger(__name__)


class Scheduler(DueWalk):
    """Takes a task by giving it to the outbox."""

    def __init__(self, database: Database, notifier: Notifier, *, interval_seconds: float) -> None:
        super().__init__(interval_seconds=interval_seconds)
        self._database = database
        self._notifier = notifier
        self.wake: Final = asyncio.Event()
        """Set when something was committed that falls due soon."""

    async def take(self, within: timedelta | None) -> int:
        sent = await schedule.send_due(self._database.fetch, limit=BATCH, within=within)
        if sent:
            self._notifier.outbox()
            log.debug("tasks_due", sent=sent)
        return sent

    async def seconds_until_next(self) -> float | None:
        return await schedule.seconds_until_next(self._database.fetch)
