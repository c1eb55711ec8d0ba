"""What stands in each work queue, as Postgres knows it."""

from collections.abc import Sequence
from typing import Any, Final

from aftercommit.core.states import WAITING, Status
from aftercommit.db.database import Fetch

_COUNT: Final = f"""
    WITH unfinished AS (
        SELECT queue, priority,
            count(*) FILTER (WHERE status = ANY($1::text[])) AS waiting,
            count(*) FILTER (WHERE status = '{Status.RUNNING}') AS running,
            min(queued_at) FILTER (WHERE status = ANY($1::text[])) AS oldest
        FROM aftercommit.tasks WHERE finished_at IS NULL GROUP BY queue, priority
    ), failures AS (
        SELECT queue, priority, count(*) FILTER (WHERE status = '{Status.FAILED}') AS failed
        FROM aftercommit.tasks WHERE finished_at IS NOT NULL AND error IS NOT NULL GROUP BY queue, priority
    )
    SELECT coalesce(u.queue, f.queue) || '.' || coalesce(u.priority, f.priority) AS name,
        coalesce(u.waiting, 0) AS waiting, coalesce(u.running, 0) AS running, coalesce(f.failed, 0) AS failed,
        extract(epoch FROM now() - u.oldest)::float8 AS oldest_waiting_seconds
    FROM unfinished u FULL JOIN failures f ON f.queue = u.queue AND f.priority = u.priority
"""


async def count(fetch: Fetch) -> Sequence[Any]:
    """A row per work queue that has tasks. Served by ``tasks_unfinished`` and ``tasks_unsuccessful``."""
    return await fetch(_COUNT, list(WAITING))
