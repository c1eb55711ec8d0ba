"""Rings again for tasks that wait although their message must be gone: wiped, purged, dead-lettered, never synced.

It does not count messages, and asks nothing about any single one; it uses that work queues are first-in-first-out:

1. A task that was sent out well before one that has been claimed from the same work queue was passed over.
2. When a work queue holds no message that is ready, look after look, no task that was sent out well before is in it.

"Well before" is RECONCILE_AFTER_SECONDS, more than a message stays unclaimed in a worker or changes places in the
queue. Where messages wait and nobody consumes, neither rule says anything, however many wait and however long: nobody
could run them either. A task whose ring waits in the outbox is not concerned: the first there limits the rules, and is
the oldest, but for refs that came late. A wrong guess costs a message that dies at the claim.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from aftercommit.broker.inspection import Inspector
from aftercommit.broker.topology import retry_queue
from aftercommit.core.queues import WorkQueue
from aftercommit.core.settings import Settings
from aftercommit.db import reconcile
from aftercommit.db.database import Database, Fetch
from aftercommit.runtime.notifier import OutboxNotifier

log = structlog.get_logger(__name__)

BATCH: Final = 5_000


class Reconciler:
    """Any number may run: a task that was enqueued again stands at the end of its queue for all of them."""

    def __init__(self, database: Database, notifier: OutboxNotifier, inspector: Inspector, settings: Settings) -> None:
        self._database = database
        self._notifier = notifier
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
        async with self._database.transaction() as fetch:
            before = await self._reached(fetch, work_queue, empty=empty)
            # The outbox is asked only when it matters.
            if before is None or not await reconcile.any_sent_out(fetch, work_queue, before=before):
                return 0
            destinations = self._destinations(work_queue)
            since = await reconcile.unpublished_since(fetch, work_queue, destinations=destinations)
            before = before if since is None else min(before, since)
            enqueued = await reconcile.resend(fetch, work_queue, before=before, limit=BATCH)
        if enqueued:
            self._notifier.send()
            log.warning("tasks_resent", work_queue=str(work_queue), count=enqueued, empty=empty)
        return enqueued

    async def _reached(self, fetch: Fetch, work_queue: WorkQueue, *, empty: bool) -> datetime | None:
        """Up to when the message of a waiting task must be gone, if it was sent; None where nothing is known."""
        row = await reconcile.reached(fetch, work_queue)
        reached: datetime | None = row["now"] if empty else row["passed_at"]
        return reached - timedelta(seconds=self._settings.reconcile_after_seconds) if reached else None

    def _destinations(self, work_queue: WorkQueue) -> Sequence[str]:
        delays = self._settings.retry_delays_seconds
        return [str(work_queue), *(retry_queue(work_queue.priority, delay) for delay in delays)]
