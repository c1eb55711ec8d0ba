"""Sends waiting tasks again whose message must be gone: wiped, purged, dead-lettered, or never synced to disk.

The reconciler neither counts messages nor asks for a single one. It relies on work queues being first-in-first-out:

1. A task that was sent out well before a task that has been claimed from the same work queue was passed over.
2. When a work queue holds no ready message in two looks in a row, no task that was sent out well before is in it.

"Well before" is RECONCILE_AFTER_SECONDS, or twice the longest hand-back time of a living worker where that is longer:
so long may a message stay unclaimed in workers or change places in the queue. Where messages wait and nobody consumes,
neither rule applies, however many wait and however long: nobody could run them either. A task whose row still waits in
the outbox is left alone: the rules reach only up to the oldest row there. A wrong guess costs a message that is stale
at the claim.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from aftercommit.broker.inspection import Inspector
from aftercommit.core.queues import WorkQueue
from aftercommit.core.settings import Settings
from aftercommit.db import reconcile
from aftercommit.db.database import Database, Fetch
from aftercommit.db.tasks import CLOCK_SKEW, first_id_at
from aftercommit.runtime.notifier import Notifier

log = structlog.get_logger(__name__)

LOOK: Final = 5_000
"""So many unfinished tasks of a work queue are looked at in one go; the next look goes on behind them."""

HAND_BACKS: Final = 2
"""A message may wait in a worker, be handed back, and wait in another."""

_FIRST: Final = UUID(int=0)


class Reconciler:
    """Any number may run: a task that was sent again stands at the end of its queue for all of them."""

    def __init__(
        self,
        database: Database,
        notifier: Notifier,
        inspector: Inspector,
        settings: Settings,
        work_queues: Callable[[], Sequence[WorkQueue]],
    ) -> None:
        self._database = database
        self._notifier = notifier
        self._inspector = inspector
        self._settings = settings
        self._work_queues = work_queues
        self._empty_before: set[WorkQueue] = set()
        self._cursors: dict[tuple[WorkQueue, bool], UUID] = {}
        self._more = False

    async def run_once(self) -> float:
        """Look at every work queue. Returns the seconds until the next look: 0 while there may be more to send.

        Raises BrokerUnavailable: without the broker nothing can be said.
        """
        work_queues = self._work_queues()
        seen = await self._inspector.look([str(work_queue) for work_queue in work_queues])
        empty = {
            work_queue
            for work_queue in work_queues
            if (found := seen.get(str(work_queue))) is not None and found.ready == 0
        }
        self._more = False
        for work_queue in work_queues:
            await self._reconcile(work_queue, empty=work_queue in empty & self._empty_before)
        self._empty_before = empty
        return 0 if self._more else self._settings.reconcile_interval_seconds

    async def _reconcile(self, work_queue: WorkQueue, *, empty: bool) -> int:
        async with self._database.transaction() as fetch:
            before = await self._watermark(fetch, work_queue, empty=empty)
            resent = await self._resend(fetch, work_queue, before) if before is not None else 0
        if resent:
            self._notifier.outbox()
            log.warning("tasks_resent", work_queue=str(work_queue), count=resent, empty=empty)
        return resent

    async def _watermark(self, fetch: Fetch, work_queue: WorkQueue, *, empty: bool) -> datetime | None:
        """The message of a waiting task that was sent before this moment must be gone. None where nothing is known."""
        row = await reconcile.watermark(fetch, work_queue)
        reached: datetime | None = row["now"] if empty else row["passed_at"]
        margin = max(self._settings.reconcile_after_seconds, HAND_BACKS * (row["hand_back_seconds"] or 0.0))
        return reached - timedelta(seconds=margin) if reached else None

    async def _resend(self, fetch: Fetch, work_queue: WorkQueue, before: datetime) -> int:
        """Look at the next tasks whose id is older than the watermark, and at the next of those whose id only looks
        younger, since a fast clock made it. Those are an hour's tasks, nearly none of them lost."""
        edge, end = first_id_at(before, shift=timedelta()), first_id_at(before, shift=CLOCK_SKEW)
        return await self._resend_between(
            fetch, work_queue, before, start=_FIRST, until=edge, by_fast_clock=False
        ) + await self._resend_between(fetch, work_queue, before, start=edge, until=end, by_fast_clock=True)

    async def _resend_between(
        self, fetch: Fetch, work_queue: WorkQueue, before: datetime, *, start: UUID, until: UUID, by_fast_clock: bool
    ) -> int:
        cursor = (work_queue, by_fast_clock)
        after = max(self._cursors.get(cursor, start), start)
        stretch = await reconcile.find_passed_over(
            fetch, work_queue, after=after, until=until, before=before, limit=LOOK
        )
        resent = 0
        if stretch.found:
            # The outbox is asked only when it matters.
            since = await reconcile.unpublished_since(fetch, work_queue)
            resent = await reconcile.resend(fetch, stretch.found, before=min(before, since) if since else before)
        full = stretch.looked == LOOK and stretch.last_id is not None
        self._cursors[cursor] = stretch.last_id if full and stretch.last_id else start
        self._more |= full and resent > 0
        return resent
