"""Statements of the reconciler: tasks that wait although their message must be gone."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tasks import CLOCK_SKEW, first_id_at
from app.lifecycle import SOURCES, Event
from app.queues import WorkQueue

_REACHED: Final = text("""
    SELECT now() AS now, (SELECT passed_at FROM work_queue_marks WHERE work_queue = :work_queue) AS passed_at
""")


async def reached(connection: AsyncConnection, work_queue: WorkQueue) -> Row[Any]:
    """The database's clock (``now``), and up to when the work queue was passed through (``passed_at``)."""
    return (await connection.execute(_REACHED, {"work_queue": str(work_queue)})).one()


_UNPUBLISHED_SINCE: Final = text("""
    SELECT min(oldest.created_at) FROM unnest(CAST(:destinations AS text[])) AS d (destination)
    CROSS JOIN LATERAL (
        SELECT created_at FROM outbox o
        WHERE o.failed_at IS NULL AND o.destination = d.destination AND o.work_queue = :work_queue
        ORDER BY o.id LIMIT 1
    ) AS oldest
""")


async def unpublished_since(
    connection: AsyncConnection, work_queue: WorkQueue, *, destinations: Sequence[str]
) -> datetime | None:
    """Since when a ring for it waits in the outbox for one of ``destinations``: itself and its retry queues. It reads
    past all that a long transaction elsewhere keeps.

    Served by ``outbox_unpublished``.
    """
    parameters = {"work_queue": str(work_queue), "destinations": list(destinations)}
    found: datetime | None = (await connection.execute(_UNPUBLISHED_SINCE, parameters)).scalar_one()
    return found


_SENT_OUT: Final = """
    SELECT id FROM tasks t
    WHERE finished_at IS NULL AND queue = :queue AND priority = :priority AND id < :before_id
        AND status = ANY(:sources) AND rung AND greatest(queued_at, due_at) < :before
        AND NOT EXISTS (SELECT FROM outbox o WHERE o.failed_at IS NOT NULL AND o.task_id = t.id)
    ORDER BY id LIMIT :limit
"""
_ANY_SENT_OUT: Final = text(f"SELECT EXISTS ({_SENT_OUT})")


async def any_sent_out(connection: AsyncConnection, work_queue: WorkQueue, *, before: datetime) -> bool:
    """Whether ``ring_again`` would find a task."""
    return bool((await connection.execute(_ANY_SENT_OUT, _sent_out(work_queue, before, limit=1))).scalar_one())


_RING_AGAIN: Final = text(f"""
    WITH lost AS ({_SENT_OUT} FOR UPDATE SKIP LOCKED), task AS (
        UPDATE tasks t SET queued_at = now() FROM lost WHERE t.id = lost.id
        RETURNING t.id, t.queue, t.priority, t.dispatch
    ), ring AS (
        INSERT INTO outbox (work_queue, task_id, dispatch) SELECT queue || '.' || priority, id, dispatch FROM task
    )
    SELECT count(*) FROM task
""")


async def ring_again(connection: AsyncConnection, work_queue: WorkQueue, *, before: datetime, limit: int) -> int:
    """Ring, with the same dispatch, for up to ``limit`` tasks that were sent out, or fell due, before ``before``.

    Their place is then the end of the queue, so that they are not rung again at once. Served by
    ``tasks_unfinished``, up to the ids of that moment.
    """
    return int((await connection.execute(_RING_AGAIN, _sent_out(work_queue, before, limit=limit))).scalar_one())


def _sent_out(work_queue: WorkQueue, before: datetime, *, limit: int) -> Mapping[str, Any]:
    return {
        "queue": work_queue.queue,
        "priority": work_queue.priority,
        "before": before,
        "before_id": first_id_at(before, shift=CLOCK_SKEW),
        "sources": SOURCES[Event.CLAIM],
        "limit": limit,
    }
