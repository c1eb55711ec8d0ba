"""Statements of the scheduler: tasks that fall due are given to the outbox."""

from typing import Final

from aftercommit.core import states
from aftercommit.core.states import Event, Status
from aftercommit.db import outbox
from aftercommit.db.database import Fetch

_SEND_DUE: Final = f"""
    WITH due AS (
        SELECT id FROM aftercommit.tasks WHERE NOT enqueued AND due_at <= now() AND status = ANY($2::text[])
        ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
    ), task AS (
        UPDATE aftercommit.tasks t
        SET enqueued = true, queued_at = now(),
            status = CASE t.status WHEN '{Status.SCHEDULED}' THEN '{Status.QUEUED}' ELSE t.status END
        FROM due WHERE t.id = due.id
        RETURNING t.id, t.queue, t.priority, t.dispatch
    ), sent AS (
        {outbox.insert("task")}
    )
    SELECT count(*) AS sent FROM task
"""

# What is due already and was not sent is locked elsewhere: to ask for it again at once would be a busy loop.
_NEXT_DUE: Final = """
    SELECT extract(epoch FROM min(due_at) - now())::float8 AS seconds
    FROM aftercommit.tasks WHERE NOT enqueued AND due_at > now()
"""


async def send_due(fetch: Fetch, *, limit: int) -> int:
    """Write outbox rows for up to ``limit`` tasks that are due; how many. Passes over locked rows.

    Served by ``tasks_due``.
    """
    (row,) = await fetch(_SEND_DUE, limit, states.SOURCES[Event.FALL_DUE])
    return int(row["sent"])


async def seconds_until_next(fetch: Fetch) -> float | None:
    """How long until the next task falls due, None if none will. Served by ``tasks_due``."""
    (row,) = await fetch(_NEXT_DUE)
    seconds: float | None = row["seconds"]
    return seconds
