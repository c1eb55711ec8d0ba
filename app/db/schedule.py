"""Statements of the scheduler: tasks that fall due are given to the outbox."""

from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app import lifecycle
from app.lifecycle import Event, Status

_SEND_DUE: Final = text(f"""
    WITH due AS (
        SELECT id FROM tasks WHERE NOT rung AND due_at <= now() AND status = ANY(:sources)
        ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ), task AS (
        UPDATE tasks t
        SET rung = true, queued_at = now(),
            status = CASE t.status WHEN '{Status.SCHEDULED}' THEN '{Status.QUEUED}' ELSE t.status END
        FROM due WHERE t.id = due.id
        RETURNING t.id, t.queue, t.priority, t.dispatch
    ), ring AS (
        INSERT INTO outbox (work_queue, task_id, dispatch) SELECT queue || '.' || priority, id, dispatch FROM task
    )
    SELECT count(*) FROM task
""")

_NEXT_DUE: Final = text("""
    SELECT extract(epoch FROM min(due_at) - now())::float8 FROM tasks WHERE NOT rung
""")


async def send_due(connection: AsyncConnection, *, limit: int) -> int:
    """Ring for up to ``limit`` tasks that are due; how many. Served by ``tasks_due``; several schedulers may run."""
    parameters = {"limit": limit, "sources": lifecycle.SOURCES[Event.FALL_DUE]}
    return int((await connection.execute(_SEND_DUE, parameters)).scalar_one())


async def seconds_until_next(connection: AsyncConnection) -> float | None:
    """How long until a task falls due, None if none will. Served by ``tasks_due``."""
    seconds: float | None = (await connection.execute(_NEXT_DUE)).scalar_one()
    return seconds
