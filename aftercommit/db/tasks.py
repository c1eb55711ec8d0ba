"""Look-ups of tasks and their attempts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, and_, select, text
from sqlalchemy.dialects.postgresql.asyncpg import dialect

from aftercommit.core import states
from aftercommit.core.queues import Priority
from aftercommit.core.states import Status
from aftercommit.db.database import Fetch
from aftercommit.db.models import tasks

CLOCK_SKEW: Final = timedelta(hours=1)
"""How far the clock that made an id may stand from the database's."""

TaskRow = dict[str, Any]
"""The columns of a task by name, JSON ones parsed."""

_DIALECT: Final = dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy does not type its dialects

_COLUMNS: Final = ", ".join(column.name for column in tasks.columns)
_GET: Final = f"SELECT {_COLUMNS} FROM aftercommit.tasks WHERE id = ANY($1::uuid[])"
_FINISHED: Final = "SELECT id FROM aftercommit.tasks WHERE id = ANY($1::uuid[]) AND finished_at IS NOT NULL"
_ATTEMPTS: Final = """
    SELECT task_id, attempt, outcome, worker, started_at, finished_at, error
    FROM aftercommit.attempts WHERE task_id = $1 ORDER BY attempt
"""


async def get(fetch: Fetch, ids: Sequence[UUID]) -> list[TaskRow]:
    """The tasks with these ids, in no particular order. Served by the primary key."""
    return [_parsed(row) for row in await fetch(_GET, ids)]


async def finished_among(fetch: Fetch, ids: Sequence[UUID]) -> set[UUID]:
    """Which of these tasks are final. Served by the primary key."""
    return {row["id"] for row in await fetch(_FINISHED, ids)}


async def list_attempts(fetch: Fetch, task_id: UUID) -> list[dict[str, Any]]:
    """The recorded attempts of a task, oldest first. Served by the primary key."""
    return [_parsed(row) for row in await fetch(_ATTEMPTS, task_id)]


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
        if wanted.status in states.UNFINISHED:
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


async def list_newest(fetch: Fetch, wanted: TaskFilter, *, before: UUID | None, limit: int) -> list[TaskRow]:
    statement, arguments = rendered(list_statement(wanted, before=before, limit=limit))
    return [_parsed(row) for row in await fetch(statement, *arguments)]


def rendered(statement: Select[Any]) -> tuple[str, list[Any]]:
    """A statement of SQLAlchemy's as asyncpg takes it: text with ``$n`` and the arguments in their order."""
    compiled = statement.compile(dialect=_DIALECT)
    return str(compiled), [compiled.params[name] for name in compiled.positiontup or ()]


def _parsed(row: Any) -> dict[str, Any]:
    columns = dict(row)
    for name in ("payload", "result", "error"):
        if columns.get(name) is not None:
            columns[name] = json.loads(columns[name])
    return columns
