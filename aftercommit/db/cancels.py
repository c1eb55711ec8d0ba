"""Statements that cancel tasks, and the one by which a worker learns which of its own are to be cancelled."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from aftercommit.core import states
from aftercommit.core.features import Feature
from aftercommit.core.states import Event, Status
from aftercommit.db import tasks
from aftercommit.db.database import Fetch
from aftercommit.db.record import NOT_CANCELLING, STILL_RUNS, AttemptKey, cancelled_error
from aftercommit.db.tasks import TaskRow

_RUNS: Final = f"t.status = '{Status.RUNNING}'"


# One statement for both, so that it does not matter when a worker claims or records the task. For a task that runs no
# indexed column changes: a HOT update.
def _cancel(wanted: str, returning: str) -> str:
    """Cancels tasks that wait in one of the states $3, and marks those that run. ``wanted`` selects each ``id`` and
    ``reason``."""
    return f"""
    WITH wanted AS (
        {wanted}
    )
    UPDATE aftercommit.tasks t
    SET status = CASE WHEN {_RUNS} THEN t.status ELSE '{Status.CANCELLED}' END,
        features = CASE WHEN {_RUNS} THEN t.features | {Feature.CANCELLING:d} ELSE t.features END,
        cancel_reason = coalesce(t.cancel_reason, wanted.reason),
        error = CASE WHEN {_RUNS} THEN t.error ELSE {cancelled_error("wanted.reason")} END,
        finished_at = CASE WHEN {_RUNS} THEN NULL ELSE now() END,
        enqueued = true, due_at = NULL
    FROM wanted WHERE t.id = wanted.id AND (t.status = ANY($3::text[]) OR {_RUNS})
    RETURNING {returning}
    """


_CANCEL: Final = _cancel(
    "SELECT $1::uuid AS id, $2::text AS reason",
    returning=f"{', '.join(f't.{column}' for column in tasks.columns())}, {tasks.progress('t')}",
)
_CANCEL_FREE: Final = _cancel(
    f"""
        SELECT t.id, asked.reason FROM unnest($1::uuid[], $2::text[]) AS asked (id, reason)
        JOIN aftercommit.tasks t ON t.id = asked.id
        WHERE t.status = ANY($3::text[]) OR ({_RUNS} AND {NOT_CANCELLING})
        ORDER BY t.id FOR NO KEY UPDATE OF t SKIP LOCKED
    """,
    returning="t.id, t.status",
)


_CANCEL_WAITING: Final = _cancel(
    """
        SELECT t.id, asked.reason FROM unnest($1::uuid[], $2::text[]) AS asked (id, reason)
        JOIN aftercommit.tasks t ON t.id = asked.id
        WHERE t.status = ANY($3::text[])
        ORDER BY t.id FOR NO KEY UPDATE OF t SKIP LOCKED
    """,
    returning="t.id",
)


async def cancel(fetch: Fetch, task_id: UUID, *, reason: str | None = None) -> TaskRow | None:
    """Cancel a task that waits, and mark one that runs: it is cancelled once its code has stopped, and until then it
    can have no other outcome. The task as it is then; None when it is final, or there is none.

    The message of a waiting task, if there is one, dies at the claim. The first reason that is given stays. Locks the
    row by primary key, and waits for it.
    """
    rows = await fetch(_CANCEL, task_id, reason, states.SOURCES[Event.CANCEL])
    return tasks.parsed(rows[0]) if rows else None


async def cancel_free(fetch: Fetch, reasons: Mapping[UUID, str]) -> set[UUID]:
    """Cancel or mark these tasks, each for its reason; the ids of those that have ended by that.

    Passes over rows that are locked elsewhere. Locks in id order, by primary key.
    """
    rows = await fetch(_CANCEL_FREE, list(reasons), list(reasons.values()), states.SOURCES[Event.CANCEL])
    return {row["id"] for row in rows if row["status"] == Status.CANCELLED}


async def cancel_waiting(fetch: Fetch, reasons: Mapping[UUID, str]) -> set[UUID]:
    """As ``cancel_free``, but for tasks that run: they go on."""
    rows = await fetch(_CANCEL_WAITING, list(reasons), list(reasons.values()), states.SOURCES[Event.CANCEL])
    return {row["id"] for row in rows}


_FIND_MARKED: Final = f"""
    SELECT t.id, t.attempt FROM unnest($1::uuid[], $2::int[], $3::text[]) AS o (id, attempt, worker)
    JOIN aftercommit.tasks t ON t.id = o.id
    WHERE {STILL_RUNS} AND t.features & {Feature.CANCELLING:d} <> 0
"""


async def find_marked(fetch: Fetch, attempts: Sequence[tuple[UUID, int, str]]) -> list[AttemptKey]:
    """Those of ``attempts`` (task, attempt, worker) that still run and are to be cancelled.

    Locks nothing; reads by primary key.
    """
    ids, numbers, workers = zip(*attempts, strict=True)
    rows = await fetch(_FIND_MARKED, ids, numbers, workers)
    return [(row["id"], row["attempt"]) for row in rows]
