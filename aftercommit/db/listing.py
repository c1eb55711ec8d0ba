"""Listings of tasks: filters and pages."""

from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, and_, select, text
from sqlalchemy.dialects.postgresql.asyncpg import dialect

from aftercommit.core import states
from aftercommit.core.queues import Priority
from aftercommit.core.states import Status
from aftercommit.db.database import Fetch
from aftercommit.db.models import tasks
from aftercommit.db.tasks import CHUNK_TASKS, CLOCK_SKEW, TaskRow, bulky_bytes, columns, first_id_at, parsed

_DIALECT: Final = dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy does not type its dialects


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    status: Status | None = None
    type: str | None = None
    queue: str | None = None
    priority: Priority | None = None
    tag: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    tasks: list[TaskRow]
    more: bool


async def list_page(
    fetch: Fetch, wanted: TaskFilter, *, before: UUID | None, limit: int, bulky: Set[str], max_bytes: int
) -> Page:
    """A page of tasks, newest first: up to ``limit``, with these ``bulky`` columns up to ``max_bytes``, at least one.

    With bulky columns, tasks are read in chunks, each by a statement of its own: a page is a place in the order, no
    snapshot.
    """
    page: list[TaskRow] = []
    size = 0
    while True:
        chunk = min(CHUNK_TASKS, limit - len(page)) if bulky else limit
        rows = await list_newest(fetch, wanted, before=before, limit=chunk + 1, bulky=bulky)
        for row in rows[:chunk]:
            size += bulky_bytes(row)
            if page and size > max_bytes:
                return Page(page, more=True)
            page.append(parsed(row))
        if len(rows) <= chunk or len(page) == limit:
            return Page(page, more=len(rows) > chunk)
        before = page[-1]["id"]


async def list_newest(
    fetch: Fetch, wanted: TaskFilter, *, before: UUID | None, limit: int, bulky: Set[str] = frozenset()
) -> list[Any]:
    """Up to ``limit`` rows as Postgres sends them, newest first."""
    statement, arguments = rendered(list_statement(wanted, before=before, limit=limit, bulky=bulky))
    return list(await fetch(statement, *arguments))


def list_statement(wanted: TaskFilter, *, before: UUID | None, limit: int, bulky: Set[str]) -> Select[Any]:
    """Newest first, by id: UUIDv7 grows with time.

    A status is also said in terms of ``finished_at`` and ``error``, which is what the partial indexes are about.
    """
    column = tasks.c
    statement = select(*(column[name] for name in columns(bulky))).order_by(column.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(column.id < before)
    if wanted.status is not None:
        statement = statement.where(column.status == wanted.status)
        if wanted.status in states.UNFINISHED:
            never_sent = wanted.status is Status.SCHEDULED
            # Written out: the planner must see which partial index it is.
            statement = statement.where(
                column.finished_at.is_(None), text("dispatch = 0" if never_sent else "dispatch > 0")
            )
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


def rendered(statement: Select[Any]) -> tuple[str, list[Any]]:
    """A statement of SQLAlchemy's as asyncpg takes it: text with ``$n`` and the arguments in their order."""
    compiled = statement.compile(dialect=_DIALECT)
    return str(compiled), [compiled.params[name] for name in compiled.positiontup or ()]
