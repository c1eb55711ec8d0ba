"""Statements of the scheduler: tasks that fall due are given to the outbox."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from aftercommit.core import states
from aftercommit.core.states import Event, Status
from aftercommit.db import outbox
from aftercommit.db.database import Fetch


def _send_due(since: str) -> str:
    return f"""
    WITH due AS (
        SELECT id FROM aftercommit.tasks
        WHERE NOT enqueued AND due_at <= now() AND due_at >= {since} AND status = ANY($2::text[])
        ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
    ), task AS (
        UPDATE aftercommit.tasks t
        SET enqueued = true, queued_at = now(), dispatch = t.dispatch + (t.status = '{Status.SCHEDULED}')::int,
            status = CASE t.status WHEN '{Status.SCHEDULED}' THEN '{Status.QUEUED}' ELSE t.status END
        FROM due WHERE t.id = due.id
        RETURNING t.id, t.queue, t.priority, t.dispatch
    ), sent AS (
        {outbox.insert("task")}
    )
    SELECT count(*) AS sent FROM task
    """


_SEND_DUE: Final = _send_due("now() - $3::interval")
_SEND_ALL_DUE: Final = _send_due("'-infinity'")

# What is due already and was not sent is locked elsewhere: to ask for it again at once would be a busy loop.
_NEXT_DUE: Final = """
    SELECT extract(epoch FROM min(due_at) - now())::float8 AS seconds
    FROM aftercommit.tasks WHERE NOT enqueued AND due_at > now()
"""


async def send_due(fetch: Fetch, *, limit: int, within: timedelta | None = None) -> int:
    """Write outbox rows for up to ``limit`` tasks that are due; how many. Passes over locked rows.

    ``within``: only for those that fell due so short a time ago. Without it the statement reads past whatever a long
    transaction keeps of all that was ever due. Served by ``tasks_due``.
    """
    arguments = (limit, states.SOURCES[Event.FALL_DUE])
    (row,) = await (fetch(_SEND_ALL_DUE, *arguments) if within is None else fetch(_SEND_DUE, *arguments, within))
    return int(row["sent"])


async def seconds_until_next(fetch: Fetch) -> float | None:
    """How long until the next task falls due, None if none will. Served by ``tasks_due``."""
    (row,) = await fetch(_NEXT_DUE)
    seconds: float | None = row["seconds"]
    return seconds


# A retry may lie in a retry queue of the broker. With another dispatch, its message there is stale.
_RUN_NOW: Final = f"""
    WITH task AS (
        UPDATE aftercommit.tasks t
        SET enqueued = true, queued_at = now(), due_at = NULL, dispatch = t.dispatch + 1,
            status = CASE t.status WHEN '{Status.SCHEDULED}' THEN '{Status.QUEUED}' ELSE t.status END
        WHERE id = $1 AND status = ANY($2::text[])
        RETURNING t.id, t.queue, t.priority, t.dispatch
    ), sent AS (
        {outbox.insert("task")}
    )
    SELECT id FROM task
"""


async def run_now(fetch: Fetch, task_id: UUID) -> bool:
    """Send a task out that waits for its time; whether it was one. Served by the primary key."""
    return bool(await fetch(_RUN_NOW, task_id, states.SOURCES[Event.RUN_NOW]))


# Not before now: ``send_due`` does not look far back.
_RESCHEDULE: Final = """
    UPDATE aftercommit.tasks SET due_at = greatest(coalesce($2::timestamptz, now() + $3::interval), now())
    WHERE id = $1 AND status = ANY($4::text[])
    RETURNING id
"""


async def reschedule(fetch: Fetch, task_id: UUID, *, run_at: datetime | None, delay: timedelta | None) -> bool:
    """Have a scheduled task sent out at ``run_at``, or after ``delay``; whether it was one. Served by the
    primary key."""
    return bool(await fetch(_RESCHEDULE, task_id, run_at, delay, states.SOURCES[Event.RESCHEDULE]))
