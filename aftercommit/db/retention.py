"""Statements of retention: finished tasks whose time is over are deleted, with their attempts and progress.

They are found by walking over the ids, which grow with time: no index on ``finished_at`` is needed, which every
finished task would have to pay for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from aftercommit.core.states import FINAL, Status
from aftercommit.db.database import Fetch

HOLD: Final = "hold"
"""A task with this tag is never deleted."""

_LEADER: Final = 7_236_002


class Kind(StrEnum):
    """Which finished tasks; each kind is kept for a time of its own."""

    SUCCEEDED = "succeeded"
    UNSUCCESSFUL = "unsuccessful"


# Said as `tasks_unsuccessful` says it, so that the walk over the unsuccessful tasks reads nothing else.
_FINISHED: Final = {
    Kind.SUCCEEDED: f"t.finished_at IS NOT NULL AND t.status = '{Status.SUCCEEDED}'",
    Kind.UNSUCCESSFUL: "t.finished_at IS NOT NULL AND t.error IS NOT NULL AND t.status IN "
    f"{tuple(str(status) for status in FINAL if status is not Status.SUCCEEDED)}",
}
_WALKED: Final = {
    Kind.SUCCEEDED: "true",
    Kind.UNSUCCESSFUL: "t.finished_at IS NOT NULL AND t.error IS NOT NULL",
}


def _over(kind: Kind) -> str:
    return (
        f"{_FINISHED[kind]} AND t.finished_at < now() - $1::float8 * interval '1 second' AND NOT t.tags @> '{{{HOLD}}}'"
    )


def _find(kind: Kind) -> str:
    return f"""
        WITH looked AS MATERIALIZED (
            SELECT t.id, {_over(kind)} AS over FROM aftercommit.tasks t
            WHERE {_WALKED[kind]} AND t.id > $2::uuid AND t.id < $3::uuid
            ORDER BY t.id LIMIT $4
        )
        SELECT (SELECT count(*) FROM looked) AS looked, (SELECT id FROM looked ORDER BY id DESC LIMIT 1) AS last_id,
            ARRAY (SELECT id FROM looked WHERE over ORDER BY id) AS found
    """


def _delete(kind: Kind) -> str:
    return f"""
        WITH locked AS (
            SELECT t.id FROM aftercommit.tasks t WHERE t.id = ANY($2::uuid[]) AND {_over(kind)}
            ORDER BY t.id FOR UPDATE SKIP LOCKED
        ), deleted AS (
            DELETE FROM aftercommit.tasks WHERE id = ANY (ARRAY (SELECT id FROM locked)) RETURNING id
        ), history AS (
            DELETE FROM aftercommit.attempts WHERE task_id = ANY (ARRAY (SELECT id FROM deleted))
        ), told AS (
            DELETE FROM aftercommit.progress WHERE task_id = ANY (ARRAY (SELECT id FROM deleted))
        )
        SELECT count(*) AS deleted FROM deleted
    """


_FIND: Final = {kind: _find(kind) for kind in Kind}
_DELETE: Final = {kind: _delete(kind) for kind in Kind}


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the tasks in id order: how many were ``looked`` at, up to ``last_id`` (None where there was none), and
    which of them are to be deleted (``found``)."""

    looked: int
    last_id: UUID | None
    found: Sequence[UUID]


_LEAD: Final = f"SELECT pg_try_advisory_lock({_LEADER}) AS leads, now() AS now"


async def lead(fetch: Fetch) -> tuple[bool, datetime]:
    """Whether this connection is the one that deletes, among all processes, until it is closed; and the database's
    clock. Needs a session of its own: behind a PgBouncer that shares sessions the lock would stay with one of them.
    """
    (row,) = await fetch(_LEAD)
    return row["leads"], row["now"]


async def find(fetch: Fetch, kind: Kind, *, retention_seconds: float, after: UUID, until: UUID, limit: int) -> Stretch:
    """Look at up to ``limit`` tasks with ids between ``after`` and ``until``, both excluded, for those that finished
    more than ``retention_seconds`` ago and are not held. Locks nothing.

    Served by the primary key (succeeded tasks) and ``tasks_unsuccessful``.
    """
    (row,) = await fetch(_FIND[kind], retention_seconds, after, until, limit)
    return Stretch(row["looked"], row["last_id"], row["found"])


async def delete(fetch: Fetch, kind: Kind, ids: Sequence[UUID], *, retention_seconds: float) -> int:
    """Delete these tasks with their attempts and progress; how many. Passes over locked rows, and over tasks that are
    not finished any more. Locks the rows in id order, by primary key.

    Whatever still refers to such a task is harmless: its message is stale at the claim, its dead letter is sent on.
    """
    (row,) = await fetch(_DELETE[kind], retention_seconds, ids)
    return int(row["deleted"])
