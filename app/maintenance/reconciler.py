"""Rings again for tasks that wait although their message must be gone: wiped, purged, dead-lettered, never synced.

It does not count messages, and asks nothing about any single one; it uses that work queues are first-in-first-out:

1. A task that was sent out well before one that has been claimed from the same work queue was passed over.
2. When a work queue holds no message that is ready, look after look, no task that was sent out well before is in it.

"Well before" is RECONCILE_AFTER_SECONDS, more than a message stays unclaimed in a worker or changes places in the
queue. Where messages wait and nobody consumes, neither rule says anything, however many wait and however long: nobody
could run them either. A task whose ring waits in the outbox is not concerned: the first there limits the rules, and is
the oldest, but for rings that came late. A wrong guess costs a message that dies at the claim.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.broker.inspection import Inspector
from app.broker.topology import retry_queue
from app.config import Settings
from app.db import reconcile
from app.db.engine import transaction
from app.db.signals import OutboxSignal
from app.queues import WorkQueue

log = structlog.get_logger(__name__)

BATCH: Final = 5_000


class Reconciler:
    """Any number may run: a task that was rung again stands at the end of its queue for all of them."""

    def __init__(self, engine: AsyncEngine, signal: OutboxSignal, inspector: Inspector, settings: Settings) -> None:
        self._engine = engine
        self._signal = signal
        self._inspector = inspector
        self._settings = settings
        self._empty_before: set[WorkQueue] = set()

    async def tick(self) -> float:
        """Look at every work queue. Raises BrokerUnavailable: without the broker nothing can be said."""
        seen = await self._inspector.look([str(work_queue) for work_queue in self._settings.work_queues])
        empty = {
            work_queue
            for work_queue in self._settings.work_queues
            if (found := seen.get(str(work_queue))) is not None and found.ready == 0
        }
        counts = [
            await self._reconcile(work_queue, empty=work_queue in empty & self._empty_before)
            for work_queue in self._settings.work_queues
        ]
        self._empty_before = empty
        # After a full batch the next look comes at once, but is a look of its own.
        return 0 if max(counts) == BATCH else self._settings.reconcile_interval_seconds

    async def _reconcile(self, work_queue: WorkQueue, *, empty: bool) -> int:
        async with transaction(self._engine) as connection:
            before = await self._reached(connection, work_queue, empty=empty)
            # The outbox is asked only when it matters.
            if before is None or not await reconcile.any_sent_out(connection, work_queue, before=before):
                return 0
            destinations = self._destinations(work_queue)
            since = await reconcile.unpublished_since(connection, work_queue, destinations=destinations)
            before = before if since is None else min(before, since)
            rung = await reconcile.ring_again(connection, work_queue, before=before, limit=BATCH)
        if rung:
            self._signal.send()
            log.warning("tasks_rung_again", work_queue=str(work_queue), count=rung, empty=empty)
        return rung

    async def _reached(self, connection: AsyncConnection, work_queue: WorkQueue, *, empty: bool) -> datetime | None:
        """Up to when the message of a waiting task must be gone, if it was sent; None where nothing is known."""
        row = await reconcile.reached(connection, work_queue)
        reached: datetime | None = row.now if empty else row.passed_at
        return reached - timedelta(seconds=self._settings.reconcile_after_seconds) if reached else None

    def _destinations(self, work_queue: WorkQueue) -> Sequence[str]:
        delays = self._settings.retry_delays_seconds
        return [str(work_queue), *(retry_queue(work_queue.priority, delay) for delay in delays)]
