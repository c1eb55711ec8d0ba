"""What stands in each work queue, as Postgres knows it."""

from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.lifecycle import WAITING, Status

_COUNT: Final = text(f"""
    WITH unfinished AS (
        SELECT queue, priority,
            count(*) FILTER (WHERE status = ANY(:waiting)) AS waiting,
            count(*) FILTER (WHERE status = '{Status.RUNNING}') AS running,
            min(queued_at) FILTER (WHERE status = ANY(:waiting)) AS oldest
        FROM tasks WHERE finished_at IS NULL GROUP BY queue, priority
    ), failures AS (
        SELECT queue, priority, count(*) FILTER (WHERE status = '{Status.FAILED}') AS failed
        FROM tasks WHERE finished_at IS NOT NULL AND error IS NOT NULL GROUP BY queue, priority
    )
    SELECT coalesce(u.queue, f.queue) || '.' || coalesce(u.priority, f.priority) AS name,
        coalesce(u.waiting, 0) AS waiting, coalesce(u.running, 0) AS running, coalesce(f.failed, 0) AS failed,
        extract(epoch FROM now() - u.oldest)::float8 AS oldest_waiting_seconds
    FROM unfinished u FULL JOIN failures f ON f.queue = u.queue AND f.priority = u.priority
""")


async def count(connection: AsyncConnection) -> list[Row[Any]]:
    """A row per work queue that has tasks. Served by ``tasks_unfinished`` and ``tasks_unsuccessful``."""
    return list(await connection.execute(_COUNT, {"waiting": WAITING}))
