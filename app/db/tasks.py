"""Statements on ``tasks`` that clients cause: submit, look up, cancel, send out again, complete by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, Select, and_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app import lifecycle
from app.db.link import Fetch
from app.db.models import attempts, tasks
from app.lifecycle import Event, Status
from app.queues import Priority

IDEMPOTENCY_KEY_HOURS: Final = 24

CLOCK_SKEW: Final = timedelta(hours=1)
"""How far the clock that made an id may stand from the database's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A task as submitted. ``payload`` is JSON text; None leaves an option to the handler and the settings."""

    id: UUID
    type: str
    payload: str
    queue: str = "tasks"
    priority: Priority = Priority.MEDIUM
    max_retries: int | None = None
    timeout_seconds: float | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    key: str
    request_hash: bytes


@dataclass(frozen=True, slots=True)
class Submission:
    """What one request submits: all of its tasks or, when another request holds its ``key``, none."""

    tasks: Sequence[NewTask]
    key: IdempotencyKey | None = None


_SUBMIT: Final = f"""
    WITH claimed_key AS (
        INSERT INTO idempotency_keys AS k (key, request_hash, task_ids)
        SELECT key, request_hash, task_ids::uuid[]
        FROM unnest($1::text[], $2::bytea[], $3::text[]) AS keyed (key, request_hash, task_ids)
        ORDER BY key
        ON CONFLICT (key) DO UPDATE
            SET request_hash = excluded.request_hash, task_ids = excluded.task_ids, created_at = now()
            WHERE k.created_at < now() - interval '{IDEMPOTENCY_KEY_HOURS} hours'
        RETURNING key
    ), task AS (
        INSERT INTO tasks (id, type, queue, priority, status, max_retries, timeout_seconds, tags, payload)
        SELECT id, type, queue, priority, '{Status.QUEUED}', max_retries, timeout_seconds, tags::text[], payload
        FROM unnest(
            $4::uuid[], $5::text[], $6::text[], $7::text[], $8::int[], $9::float8[], $10::text[], $11::json[],
            $12::text[]
        ) AS submitted (id, type, queue, priority, max_retries, timeout_seconds, tags, payload, key)
        WHERE key IS NULL OR key IN (SELECT key FROM claimed_key)
        RETURNING id, queue, priority
    ), ring AS (
        INSERT INTO outbox (work_queue, task_id, dispatch) SELECT queue || '.' || priority, id, 1 FROM task
    )
    SELECT now(), ARRAY(SELECT key FROM claimed_key)
"""


async def submit(fetch: Fetch, submissions: Sequence[Submission]) -> tuple[datetime, frozenset[str]]:
    """Insert tasks and their outbox rows in one statement, all or nothing; returns when they were created and which
    keys were free. A submission whose key is not among these inserted nothing: another request holds it.

    A key may come once. Two requests with one key wait for each other on the key's row; keys are locked in their
    order. An id that exists is refused.
    """
    keyed = [(each.key, each.tasks) for each in submissions if each.key is not None]
    new = [(task, each.key) for each in submissions for task in each.tasks]
    (row,) = await fetch(
        _SUBMIT,
        [key.key for key, _ in keyed],
        [key.request_hash for key, _ in keyed],
        ["{" + ",".join(str(task.id) for task in tasks) + "}" for _, tasks in keyed],
        [task.id for task, _ in new],
        [task.type for task, _ in new],
        [task.queue for task, _ in new],
        [task.priority for task, _ in new],
        [task.max_retries for task, _ in new],
        [task.timeout_seconds for task, _ in new],
        [array_literal(task.tags) for task, _ in new],
        [task.payload for task, _ in new],
        [key.key if key else None for _, key in new],
    )
    return row[0], frozenset(row[1])


def array_literal(items: Sequence[str]) -> str:
    """A Postgres array in its text form: ``unnest`` would flatten an array of arrays."""
    if not items:
        return "{}"
    quoted = (item.replace("\\", "\\\\").replace('"', '\\"') for item in items)
    return "{" + ",".join(f'"{item}"' for item in quoted) + "}"


async def get(connection: AsyncConnection, ids: Sequence[UUID]) -> list[Row[Any]]:
    """The tasks with these ids, in no particular order. Served by the primary key."""
    return list(await connection.execute(select(tasks).where(tasks.c.id.in_(ids))))


async def finished_among(connection: AsyncConnection, ids: Sequence[UUID]) -> set[UUID]:
    """Which of these tasks are final. Served by the primary key."""
    statement = select(tasks.c.id).where(tasks.c.id.in_(ids), tasks.c.finished_at.is_not(None))
    return set(await connection.scalars(statement))


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    status: Status | None = None
    type: str | None = None
    queue: str | None = None
    priority: Priority | None = None
    tag: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


def list_statement(wanted: TaskFilter, *, before: UUID | None, limit: int) -> Select[Any]:
    """Newest first, by id: UUIDv7 grows with time.

    A status is also said in terms of ``finished_at`` and ``error``, which is what the partial indexes are about.
    """
    column = tasks.c
    statement = select(tasks).order_by(column.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(column.id < before)
    if wanted.status is not None:
        statement = statement.where(column.status == wanted.status)
        if wanted.status in lifecycle.UNFINISHED:
            statement = statement.where(column.finished_at.is_(None))
        elif wanted.status is not Status.SUCCEEDED:
            statement = statement.where(and_(column.finished_at.is_not(None), column.error.is_not(None)))
    for name in ("type", "queue", "priority"):
        if (value := getattr(wanted, name)) is not None:
            statement = statement.where(column[name] == value)
    if wanted.tag is not None:
        # The second condition lets the planner use the partial index.
        statement = statement.where(column.tags.contains([wanted.tag]), text("tags <> '{}'"))
    if wanted.created_from is not None:
        statement = statement.where(
            column.created_at >= wanted.created_from, column.id >= first_id_at(wanted.created_from, shift=-CLOCK_SKEW)
        )
    if wanted.created_before is not None:
        statement = statement.where(
            column.created_at < wanted.created_before, column.id < first_id_at(wanted.created_before, shift=CLOCK_SKEW)
        )
    return statement


def first_id_at(moment: datetime, *, shift: timedelta) -> UUID:
    """The smallest UUIDv7 of the millisecond that is ``shift`` from ``moment`` (RFC 9562, 5.7)."""
    milliseconds = int((moment.timestamp() + shift.total_seconds()) * 1000)
    return UUID(int=min(max(milliseconds, 0), 2**48 - 1) << 80 | 0x7 << 76 | 0x2 << 62)


async def list_newest(
    connection: AsyncConnection, wanted: TaskFilter, *, before: UUID | None, limit: int
) -> list[Row[Any]]:
    return list(await connection.execute(list_statement(wanted, before=before, limit=limit)))


async def list_attempts(connection: AsyncConnection, task_id: UUID) -> list[Row[Any]]:
    """The recorded attempts of a task, oldest first. Served by the primary key."""
    return list(
        await connection.execute(select(attempts).where(attempts.c.task_id == task_id).order_by(attempts.c.attempt))
    )


_CANCEL: Final = text(f"""
    UPDATE tasks
    SET status = '{Status.CANCELLED}', finished_at = now(), rung = true, due_at = NULL,
        error = json_build_object('type', 'Cancelled', 'message', 'cancelled on request', 'traceback', NULL)
    WHERE id = :id AND status = ANY(:sources)
    RETURNING id
""")


async def cancel(connection: AsyncConnection, task_id: UUID) -> bool:
    """Cancel a waiting task; whether it was one. Its message, if there is one, dies at the claim."""
    result = await connection.execute(_CANCEL, {"id": task_id, "sources": lifecycle.SOURCES[Event.CANCEL]})
    return result.first() is not None


_RESUBMIT: Final = text(f"""
    WITH ended AS (
        SELECT id, attempt, status, worker, started_at, finished_at, error
        FROM tasks WHERE id = :id AND status = ANY(:sources) FOR UPDATE
    ), history AS (
        INSERT INTO attempts (task_id, attempt, outcome, worker, started_at, finished_at, error)
        SELECT id, attempt, CASE status WHEN '{Status.SUCCEEDED}' THEN status ELSE 'completed' END,
            worker, started_at, finished_at, error
        FROM ended WHERE attempt > 0
        ON CONFLICT DO NOTHING
    ), task AS (
        UPDATE tasks t
        SET status = '{Status.QUEUED}', dispatch = t.dispatch + 1, uncharged = t.attempt, rung = true,
            queued_at = now(), due_at = NULL, finished_at = NULL, result = NULL, error = NULL
        FROM ended WHERE t.id = ended.id
        RETURNING t.id, t.queue, t.priority, t.dispatch
    ), ring AS (
        INSERT INTO outbox (work_queue, task_id, dispatch) SELECT queue || '.' || priority, id, dispatch FROM task
    )
    SELECT id FROM task
""")


async def resubmit(connection: AsyncConnection, task_id: UUID) -> bool:
    """Send a final task out again with all its retries before it; whether it was final.

    Its last attempt goes into the history, where only a success or an outcome recorded by hand does not stand yet.
    """
    result = await connection.execute(_RESUBMIT, {"id": task_id, "sources": lifecycle.SOURCES[Event.RESUBMIT]})
    return result.first() is not None


_COMPLETE: Final = text(f"""
    WITH task AS (
        UPDATE tasks
        SET status = CASE WHEN CAST(:error AS json) IS NULL THEN '{Status.SUCCEEDED}' ELSE '{Status.FAILED}' END,
            result = CAST(:result AS json), error = CAST(:error AS json), finished_at = now(), due_at = NULL,
            rung = true
        WHERE id = :id AND status = ANY(:sources)
        RETURNING id, queue, priority, dispatch, error
    ), dead_letter AS (
        INSERT INTO outbox (work_queue, task_id, dispatch, dead_reason)
        SELECT queue || '.' || priority, id, dispatch, :reason FROM task WHERE error IS NOT NULL
    )
    SELECT id FROM task
""")


async def complete(
    connection: AsyncConnection, task_id: UUID, *, result: str | None, error: str | None, reason: str
) -> bool:
    """Record an outcome by hand (JSON texts); whether the task was unfinished. A failure becomes a dead letter.

    A worker that runs the task finds its own outcome fenced out.
    """
    parameters = {
        "id": task_id,
        "result": result,
        "error": error,
        "reason": reason,
        "sources": lifecycle.SOURCES[Event.COMPLETE],
    }
    return (await connection.execute(_COMPLETE, parameters)).first() is not None
