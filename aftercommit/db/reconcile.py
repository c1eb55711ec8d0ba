"""Statements of the reconciler: tasks that wait although their message must be gone."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from aftercommit.core.queues import WorkQueue
from aftercommit.core.states import SOURCES, Event
from aftercommit.db.database import Fetch
from aftercommit.db.tasks import CLOCK_SKEW, first_id_at

_REACHED: Final = """
    SELECT now() AS now, (SELECT passed_at FROM aftercommit.queue_statistics
        WHERE work_queue = $1) AS passed_at
"""


async def reached(fetch: Fetch, work_queue: WorkQueue) -> Any:
    """The database's clock (``now``), and up to when the work queue was passed through (``passed_at``)."""
    (row,) = await fetch(_REACHED, str(work_queue))
    return row


_UNPUBLISHED_SINCE: Final = """
    SELECT min(oldest.created_at) AS since FROM unnest($2::text[]) AS d (destination)
    CROSS JOIN LATERAL (
        SELECT created_at FROM aftercommit.outbox o
        WHERE o.failed_at IS NULL AND o.destination = d.destination AND o.work_queue = $1
        ORDER BY o.id LIMIT 1
    ) AS oldest
"""


async def unpublished_since(fetch: Fetch, work_queue: WorkQueue, *, destinations: Sequence[str]) -> datetime | None:
    """Since when a ring for it waits in the outbox for one of ``destinations``: itself and its retry queues. It reads
    past all that a long transaction elsewhere keeps.

    Served by ``outbox_unpublished``.
    """
    (row,) = await fetch(_UNPUBLISHED_SINCE, str(work_queue), list(destinations))
    since: datetime | None = row["since"]
    return since


_SENT_OUT: Final = """
    SELECT id FROM aftercommit.tasks t
    WHERE finished_at IS NULL AND queue = $1 AND priority = $2 AND id < $3::uuid
        AND status = ANY($4::text[]) AND enqueued AND greatest(queued_at, due_at) < $5::timestamptz
        AND NOT EXISTS (SELECT FROM aftercommit.outbox o WHERE o.failed_at IS NOT NULL AND o.task_id = t.id)
    ORDER BY id LIMIT $6
"""
_ANY_SENT_OUT: Final = f"SELECT EXISTS ({_SENT_OUT}) AS found"


async def any_sent_out(fetch: Fetch, work_queue: WorkQueue, *, before: datetime) -> bool:
    """Whether ``resend`` would find a task."""
    (row,) = await fetch(_ANY_SENT_OUT, *_sent_out(work_queue, before, limit=1))
    return bool(row["found"])


_RESEND: Final = f"""
    WITH lost AS ({_SENT_OUT} FOR UPDATE SKIP LOCKED), task AS (
        UPDATE aftercommit.tasks t SET queued_at = now() FROM lost WHERE t.id = lost.id
        RETURNING t.id, t.queue, t.priority, t.dispatch
    ), sent AS (
        INSERT INTO aftercommit.outbox (work_queue, task_id, dispatch)
            SELECT queue || '.' || priority, id, dispatch FROM task
    )
    SELECT count(*) AS resent FROM task
"""


async def resend(fetch: Fetch, work_queue: WorkQueue, *, before: datetime, limit: int) -> int:
    """TaskRef, with the same dispatch, for up to ``limit`` tasks that were sent out, or fell due, before ``before``.

    Their place is then the end of the queue, so that they are not enqueued again at once. Served by
    ``tasks_unfinished``, up to the ids of that moment.
    """
    (row,) = await fetch(_RESEND, *_sent_out(work_queue, before, limit=limit))
    return int(row["resent"])


def _sent_out(work_queue: WorkQueue, before: datetime, *, limit: int) -> tuple[Any, ...]:
    before_id = first_id_at(before, shift=CLOCK_SKEW)
    return work_queue.queue, work_queue.priority, before_id, SOURCES[Event.CLAIM], before, limit
