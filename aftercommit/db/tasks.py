"""Look-ups of tasks and their attempts by id."""

import json
from collections.abc import Sequence, Set
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from aftercommit.db.database import Fetch
from aftercommit.db.models import tasks

TaskRow = dict[str, Any]
"""The columns of a task by name, JSON ones parsed."""

BULKY: Final = frozenset({"payload", "result", "error"})
"""Columns without a small bound. They are read only where they are returned."""

_JSON: Final = BULKY | {"retry", "progress"}

CLOCK_SKEW: Final = timedelta(hours=1)
"""How far the clock that made an id may stand from the database's."""

CHUNK_TASKS: Final = 50
"""Tasks that are read with bulky columns at a time: what one statement may bring into memory."""


def columns(bulky: Set[str] = BULKY) -> list[str]:
    """Names of the columns of a task, with only these ``bulky`` ones."""
    return [column.name for column in tasks.columns if column.name not in BULKY or column.name in bulky]


def progress(task: str) -> str:
    """The column ``progress`` of a row that the statement knows as ``task``."""
    return f"""(
        SELECT json_build_object(
            'fraction', p.fraction, 'message', p.message, 'attempt', p.attempt, 'reported_at', p.reported_at
        )
        FROM aftercommit.progress p WHERE p.task_id = {task}.id
    ) AS progress"""


_PROGRESS: Final = progress("tasks")
_GET: Final = f"SELECT {', '.join(columns())}, {_PROGRESS} FROM aftercommit.tasks WHERE id = ANY($1::uuid[])"
_GET_SLIM: Final = (
    f"SELECT {', '.join(columns(frozenset()))}, {_PROGRESS} FROM aftercommit.tasks WHERE id = ANY($1::uuid[])"
)
_FINISHED: Final = "SELECT id FROM aftercommit.tasks WHERE id = ANY($1::uuid[]) AND finished_at IS NOT NULL"
_ATTEMPTS: Final = """
    SELECT task_id, attempt, outcome, worker, started_at, finished_at, error, payload
    FROM aftercommit.attempts WHERE task_id = $1 ORDER BY attempt
"""


async def get(fetch: Fetch, ids: Sequence[UUID]) -> list[TaskRow]:
    """The tasks with these ids and their ``progress``, in no particular order. Served by the primary keys."""
    return [parsed(row) for row in await fetch(_GET, ids)]


async def get_within(fetch: Fetch, ids: Sequence[UUID], *, max_bytes: int) -> list[TaskRow]:
    """Those of these tasks that exist, in the order of ``ids``. Served by the primary key.

    The first ones come with their bulky columns, ``max_bytes`` of them and at least the first task's; the others
    without.
    """
    found: dict[UUID, TaskRow] = {}
    size = 0
    position = 0
    while position < len(ids) and size <= max_bytes:
        chunk = ids[position : position + CHUNK_TASKS]
        position += len(chunk)
        rows = {row["id"]: row for row in await fetch(_GET, chunk)}
        for row in (rows[id_] for id_ in chunk if id_ in rows):
            size += bulky_bytes(row)
            found[row["id"]] = parsed(row) if size <= max_bytes or not found else _slim(row)
    if position < len(ids):
        found |= {row["id"]: parsed(row) for row in await fetch(_GET_SLIM, ids[position:])}
    return [found[id_] for id_ in ids if id_ in found]


async def finished_among(fetch: Fetch, ids: Sequence[UUID]) -> set[UUID]:
    """Which of these tasks are final. Served by the primary key."""
    return {row["id"] for row in await fetch(_FINISHED, ids)}


async def list_attempts(fetch: Fetch, task_id: UUID) -> list[dict[str, Any]]:
    """The recorded attempts of a task, oldest first. Served by the primary key."""
    return [parsed(row) for row in await fetch(_ATTEMPTS, task_id)]


def first_id_at(moment: datetime, *, shift: timedelta) -> UUID:
    """The smallest UUIDv7 of the millisecond that is ``shift`` from ``moment`` (RFC 9562, 5.7)."""
    milliseconds = int((moment.timestamp() + shift.total_seconds()) * 1000)
    return UUID(int=min(max(milliseconds, 0), 2**48 - 1) << 80 | 0x7 << 76 | 0x2 << 62)


def parsed(row: Any) -> dict[str, Any]:
    """A row by column name, JSON columns parsed."""
    values = dict(row)
    for name in _JSON:
        if values.get(name) is not None:
            values[name] = json.loads(values[name])
    return values


def bulky_bytes(row: Any) -> int:
    """Characters of the JSON in a row, as Postgres sent it: about its bytes."""
    return sum(len(value) for name, value in row.items() if name in BULKY and value is not None)


def _slim(row: Any) -> TaskRow:
    return parsed({name: value for name, value in row.items() if name not in BULKY})
