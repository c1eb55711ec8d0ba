"""Statements that empty a queue: its tasks go to another one, or are cancelled, a batch at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from aftercommit.core import states
from aftercommit.core.queues import Priority
from aftercommit.core.states import Event, Status
from aftercommit.db import outbox
from aftercommit.db.database import Fetch
from aftercommit.db.record import NOT_CANCELLING

_WAITS: Final = "t.status = ANY ($4::text[])"

# A retry that lies in a retry queue, addressed to the old work queue, is left to the scheduler. With another dispatch
# every message of the old queue is stale. What runs goes on, and its retries go to the new queue.
_MOVE: Final = f"""
    WITH found AS (
        SELECT id FROM aftercommit.tasks
        WHERE finished_at IS NULL AND dispatch > 0 AND queue = $1
        ORDER BY priority, id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
    ), task AS (
        UPDATE aftercommit.tasks t
        SET queue = $2, dispatch = t.dispatch + ({_WAITS} AND t.enqueued)::int,
            enqueued = t.enqueued AND NOT ({_WAITS} AND coalesce(t.due_at > now(), false)),
            queued_at = CASE
                WHEN {_WAITS} AND t.enqueued AND (t.due_at > now()) IS NOT TRUE THEN now() ELSE t.queued_at
            END
        FROM found WHERE t.id = found.id
        RETURNING t.id, t.queue, t.priority, t.dispatch, {_WAITS} AND t.enqueued AS is_sent
    ), sent AS (
        {outbox.insert("task WHERE is_sent")}
    )
    SELECT count(*) AS moved FROM task
"""
_MOVE_SCHEDULED: Final = """
    WITH found AS (
        SELECT id FROM aftercommit.tasks
        WHERE finished_at IS NULL AND dispatch = 0 AND queue = $1
        ORDER BY priority, id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE aftercommit.tasks t SET queue = $2 FROM found WHERE t.id = found.id RETURNING t.id
"""


async def move(fetch: Fetch, name: str, *, to: str, limit: int) -> int:
    """Give up to ``limit`` unfinished tasks of a queue, and as many scheduled ones, to another queue; how many. Passes
    over locked rows. Served by ``tasks_unfinished`` and ``tasks_scheduled``."""
    waiting = states.SOURCES[Event.CLAIM]
    (row,) = await fetch(_MOVE, name, to, limit, waiting)
    return int(row["moved"]) + len(await fetch(_MOVE_SCHEDULED, name, to, limit))


_CANCELLABLE: Final = f"""
    (SELECT t.id FROM aftercommit.tasks t
        WHERE t.finished_at IS NULL AND t.dispatch > 0 AND t.queue = $1
            AND (t.status <> '{Status.RUNNING}' OR {NOT_CANCELLING})
        ORDER BY t.priority, t.id LIMIT $2)
    UNION ALL
    (SELECT t.id FROM aftercommit.tasks t WHERE t.finished_at IS NULL AND t.dispatch = 0 AND t.queue = $1
        ORDER BY t.priority, t.id LIMIT $2)
"""
_ON_THEIR_WAY: Final = """
    SELECT EXISTS (
        SELECT FROM aftercommit.outbox_rows o
        WHERE o.failed_at IS NULL AND o.eager_until IS NULL AND o.destination = ANY ($1::text[])
    ) OR EXISTS (
        SELECT FROM aftercommit.outbox_rows o WHERE o.eager_until IS NOT NULL AND o.destination = ANY ($1::text[])
    ) AS some
"""


async def find_cancellable(fetch: Fetch, name: str, *, limit: int) -> list[UUID]:
    """Up to ``limit`` tasks of a queue that are sent out, and as many scheduled ones, that are neither final nor to be
    cancelled already. Served by ``tasks_unfinished`` and ``tasks_scheduled``."""
    return [row["id"] for row in await fetch(_CANCELLABLE, name, limit)]


async def are_on_their_way(fetch: Fetch, name: str) -> bool:
    """Whether the outbox has rows for a queue. Served by ``outbox_unpublished`` and ``outbox_eager``."""
    (row,) = await fetch(_ON_THEIR_WAY, [f"{name}.{priority}" for priority in Priority])
    return bool(row["some"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """What is to be cancelled: tasks of a queue that wait, were created before a moment, and have the ``priority`` and
    the ``type``, where these are given."""

    id: UUID
    queue: str
    priority: str | None
    type: str | None
    created_before: datetime


_ASK: Final = """
    INSERT INTO aftercommit.purges (id, queue, priority, type, created_before, after_priority, after_id)
    VALUES ($1, $2, $3, $4, now() - $5::float8 * interval '1 second', '', '00000000-0000-0000-0000-000000000000')
    RETURNING *
"""
_GET: Final = "SELECT * FROM aftercommit.purges WHERE id = $1 AND queue = $2"
_NEXT: Final = """
    SELECT * FROM aftercommit.purges WHERE ended_at IS NULL ORDER BY asked_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
"""
_MATCHING: Final = """
    SELECT t.id, t.priority, t.status = ANY ($7::text[]) AND t.created_at < $5::timestamptz
        AND ($4::text IS NULL OR t.type = $4) AND ($3::text IS NULL OR t.priority = $3) AS matches
    FROM aftercommit.tasks t
    WHERE t.finished_at IS NULL AND t.dispatch > 0 AND t.queue = $1 AND (t.priority, t.id) > ($2::text, $6::uuid)
    ORDER BY t.priority, t.id LIMIT $8
"""
_COUNT: Final = """
    SELECT count(*) AS matching FROM (
        SELECT t.type, t.created_at, t.status FROM aftercommit.tasks t
        WHERE t.finished_at IS NULL AND t.dispatch > 0 AND t.queue = $1 AND ($2::text IS NULL OR t.priority = $2)
        LIMIT $6
    ) looked
    WHERE looked.status = ANY ($5::text[]) AND looked.created_at < now() - $4::float8 * interval '1 second'
        AND ($3::text IS NULL OR looked.type = $3)
"""
_ADVANCE: Final = """
    UPDATE aftercommit.purges SET after_priority = coalesce($2, after_priority), after_id = coalesce($3, after_id),
        cancelled = cancelled + $4, ended_at = CASE WHEN $5 THEN now() END
    WHERE id = $1
"""
_PRUNE: Final = "DELETE FROM aftercommit.purges WHERE ended_at < now() - interval '7 days'"


async def ask_purge(
    fetch: Fetch, purge_id: UUID, name: str, *, priority: str | None, type: str | None, older_than_seconds: float
) -> Any:
    """Have a queue purged of what waits since ``older_than_seconds``; the row of it."""
    (row,) = await fetch(_ASK, purge_id, name, priority, type, older_than_seconds)
    return row


async def get_purge(fetch: Fetch, purge_id: UUID, name: str) -> Any | None:
    """How far a purge is; None: there is none. By primary key."""
    rows = await fetch(_GET, purge_id, name)
    return rows[0] if rows else None


async def count_matching(
    fetch: Fetch, name: str, *, priority: str | None, type: str | None, older_than_seconds: float, most: int
) -> int:
    """How many of the first ``most`` unfinished tasks of a queue a purge would cancel. Served by
    ``tasks_unfinished``."""
    waiting = states.SOURCES[Event.CLAIM]
    (row,) = await fetch(_COUNT, name, priority, type, older_than_seconds, waiting, most)
    return int(row["matching"])


async def lock_purge(fetch: Fetch) -> Any | None:
    """Lock the oldest purge that is not done, and that nobody works on. Reads the table, which is small."""
    rows = await fetch(_NEXT)
    return rows[0] if rows else None


async def matching(fetch: Fetch, purge: Any, *, limit: int) -> Sequence[Any]:
    """The next ``limit`` unfinished tasks of the queue: ``id``, ``priority``, and whether the purge ``matches``. Served
    by ``tasks_unfinished``."""
    return await fetch(
        _MATCHING,
        purge["queue"],
        purge["after_priority"],
        purge["priority"],
        purge["type"],
        purge["created_before"],
        purge["after_id"],
        states.SOURCES[Event.CLAIM],
        limit,
    )


async def advance_purge(fetch: Fetch, purge_id: UUID, *, last: Any | None, cancelled: int, ended: bool) -> None:
    """Note how far it is: behind the row ``last``. By primary key."""
    await fetch(_ADVANCE, purge_id, last["priority"] if last else None, last["id"] if last else None, cancelled, ended)


async def prune_purges(fetch: Fetch) -> None:
    """Forget what was purged a week ago. Reads the table, which is small."""
    await fetch(_PRUNE)
