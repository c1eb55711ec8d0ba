"""Statements that tell what workers there are, and the one that drains one."""

from collections.abc import Sequence
from typing import Any, Final

from aftercommit.core.states import Status
from aftercommit.db.database import Fetch

MOST_TASKS: Final = 100

_COLUMNS: Final = """
    w.name, w.host, w.pid, w.version, w.work_queues, w.slots, w.slots_taken, w.prefetch, w.started_at, w.renewed_at,
    w.lease_until, w.drain_requested_at, w.handlers::text AS handlers,
    CASE WHEN w.lease_until <= now() THEN 'lost' WHEN w.drain_requested_at IS NOT NULL THEN 'draining'
        ELSE 'running' END AS state,
    (SELECT json_object_agg(g.queue, g.granted)::text FROM aftercommit.queue_grants g WHERE g.worker = w.name) AS grants
"""
_LIST: Final = f"""
    SELECT {_COLUMNS} FROM aftercommit.workers w
    WHERE w.closed_at IS NULL AND ($1::text IS NULL OR w.name > $1) ORDER BY w.name LIMIT $2
"""
_GET: Final = f"SELECT {_COLUMNS} FROM aftercommit.workers w WHERE w.closed_at IS NULL AND w.name = $1"
_RUNS: Final = f"""
    SELECT DISTINCT t.id, t.type, t.queue, t.priority, t.attempt, t.started_at
    FROM aftercommit.claims c CROSS JOIN unnest(c.task_ids) AS held (id)
    JOIN aftercommit.tasks t ON t.id = held.id AND t.status = '{Status.RUNNING}' AND t.worker = c.worker
    WHERE c.worker = $1 ORDER BY t.started_at LIMIT {MOST_TASKS}
"""
_DRAIN: Final = """
    UPDATE aftercommit.workers SET drain_requested_at = coalesce(drain_requested_at, now())
    WHERE name = $1 AND lease_until > now() AND closed_at IS NULL RETURNING name
"""


async def list_page(fetch: Fetch, *, after: str | None, limit: int) -> Sequence[Any]:
    """Workers that have not stopped in order, by name. By primary key; ``queue_grants_by_worker``."""
    return await fetch(_LIST, after, limit)


async def get(fetch: Fetch, name: str) -> Any | None:
    """One worker, unless it has stopped in order. By primary key."""
    rows = await fetch(_GET, name)
    return rows[0] if rows else None


async def runs(fetch: Fetch, name: str) -> Sequence[Any]:
    """The first MOST_TASKS tasks that a worker runs. Served by ``claims_by_worker`` and the primary key of tasks."""
    return await fetch(_RUNS, name)


async def drain(fetch: Fetch, name: str) -> bool:
    """Have a worker take nothing more, finish and end; whether its lease runs. By primary key."""
    return bool(await fetch(_DRAIN, name))
