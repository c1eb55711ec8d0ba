"""Statements on ``workers``: who is alive. A lease that lapsed is never renewed: its worker takes a new name."""

from collections.abc import Sequence
from typing import Final

from aftercommit.db.database import Fetch
from aftercommit.db.queue_statistics import QueueStatistics

_OPEN: Final = """
    INSERT INTO aftercommit.workers (name, handlers, lease_until)
    VALUES ($1, $2::json, now() + $3::float8 * interval '1 second')
    ON CONFLICT (name) DO UPDATE SET lease_until = excluded.lease_until
"""

_RENEW: Final = """
    WITH statistics AS (
        INSERT INTO aftercommit.queue_statistics AS s (work_queue, passed_at, task_seconds)
        SELECT work_queue, passed_at, task_seconds
        FROM unnest($3::text[], $4::timestamptz[], $5::float8[]) AS u (work_queue, passed_at, task_seconds)
        ORDER BY work_queue
        ON CONFLICT (work_queue) DO UPDATE SET
            passed_at = greatest(s.passed_at, excluded.passed_at),
            task_seconds = coalesce(excluded.task_seconds, s.task_seconds)
    )
    UPDATE aftercommit.workers SET lease_until = now() + $2::float8 * interval '1 second'
    WHERE name = $1 AND lease_until > now()
    RETURNING name
"""

_CLOSE: Final = "DELETE FROM aftercommit.workers WHERE name = $1"

_PRUNE: Final = """
    DELETE FROM aftercommit.workers w
    WHERE w.lease_until < now() - interval '1 hour'
        AND NOT EXISTS (SELECT FROM aftercommit.claims c WHERE c.worker = w.name)
"""


async def open_lease(fetch: Fetch, *, name: str, handlers: str, seconds: float) -> None:
    """A lease for a new name. ``handlers`` is JSON: what the rescuer must know of this worker's handlers."""
    await fetch(_OPEN, name, handlers, seconds)


async def renew(fetch: Fetch, *, name: str, seconds: float, statistics: Sequence[QueueStatistics]) -> bool:
    """Renew a lease that has not lapsed; whether it had not. ``statistics`` advance ``queue_statistics``."""
    rows = await fetch(
        _RENEW,
        name,
        seconds,
        [each.work_queue for each in statistics],
        [each.passed_at for each in statistics],
        [each.task_seconds for each in statistics],
    )
    return bool(rows)


async def close(fetch: Fetch, name: str) -> None:
    """Give a lease back. Only for a worker that runs nothing any more.

    Its claims stay: one whose answer was lost may hold tasks that the worker knows nothing of. The rescuer sees to it.
    """
    await fetch(_CLOSE, name)


async def prune(fetch: Fetch) -> None:
    """Forget workers that were lost over an hour ago. Reads ``workers``, which is small."""
    await fetch(_PRUNE)
