"""Statements on ``workers``: who is alive. A lease that lapsed is never renewed: its worker takes a new name."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.marks import Mark

_OPEN: Final = text("""
    INSERT INTO workers (name, handlers, lease_until)
    VALUES (:name, CAST(:handlers AS json), now() + :seconds * interval '1 second')
    ON CONFLICT (name) DO UPDATE SET lease_until = excluded.lease_until
""")

_RENEW: Final = text("""
    WITH marked AS (
        INSERT INTO work_queue_marks AS m (work_queue, passed_at, task_seconds)
        SELECT work_queue, passed_at, task_seconds
        FROM unnest(CAST(:work_queues AS text[]), CAST(:passed AS timestamptz[]), CAST(:seconds_each AS float8[]))
            AS u (work_queue, passed_at, task_seconds)
        ORDER BY work_queue
        ON CONFLICT (work_queue) DO UPDATE SET
            passed_at = greatest(m.passed_at, excluded.passed_at),
            task_seconds = coalesce(excluded.task_seconds, m.task_seconds)
    )
    UPDATE workers SET lease_until = now() + :seconds * interval '1 second'
    WHERE name = :name AND lease_until > now()
    RETURNING name
""")

_CLOSE: Final = text("DELETE FROM workers WHERE name = :name")

_PRUNE: Final = text("""
    DELETE FROM workers w
    WHERE w.lease_until < now() - interval '1 hour' AND NOT EXISTS (SELECT FROM claims c WHERE c.worker = w.name)
""")


async def open_lease(connection: AsyncConnection, *, name: str, handlers: str, seconds: float) -> None:
    """A lease for a new name. ``handlers`` is JSON: what the rescuer must know of this worker's handlers."""
    await connection.execute(_OPEN, {"name": name, "handlers": handlers, "seconds": seconds})


async def renew(connection: AsyncConnection, *, name: str, seconds: float, marks: Sequence[Mark]) -> bool:
    """Renew a lease that has not lapsed; whether it had not. ``marks`` advance ``work_queue_marks``."""
    parameters = {
        "name": name,
        "seconds": seconds,
        "work_queues": [mark.work_queue for mark in marks],
        "passed": [mark.passed_at for mark in marks],
        "seconds_each": [mark.task_seconds for mark in marks],
    }
    return (await connection.execute(_RENEW, parameters)).first() is not None


async def close(connection: AsyncConnection, name: str) -> None:
    """Give a lease back. Only for a worker that runs nothing any more.

    Its claims stay: one whose answer was lost may hold tasks that the worker knows nothing of. The rescuer sees to it.
    """
    await connection.execute(_CLOSE, {"name": name})


async def prune(connection: AsyncConnection) -> None:
    """Forget workers that were lost over an hour ago. Reads ``workers``, which is small."""
    await connection.execute(_PRUNE)
