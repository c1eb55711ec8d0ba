"""The claim: waiting tasks become running ones, for one worker."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from aftercommit.core import states
from aftercommit.core.failures import SUSPICIOUS
from aftercommit.core.states import Event, Status
from aftercommit.core.task_ref import TaskRef
from aftercommit.db.database import Fetch


@dataclass(slots=True)
class ClaimedTask:
    """A task that this worker now runs.

    ``charged`` counts the attempts, this one included, against max_retries. ``suspect``: the task may be what took its
    workers down before. ``payload``, ``retry`` and ``schedule`` are JSON texts: whoever runs the task reads them, so
    that a payload that cannot be read is the failure of that task alone.
    """

    claim_id: UUID
    worker: str
    id: UUID
    dispatch: int
    type: str
    queue: str
    priority: str
    attempt: int
    charged: int
    max_retries: int | None
    timeout_seconds: float | None
    tags: list[str]
    created_at: datetime
    queued_at: datetime
    started_at: datetime
    expires_at: datetime | None
    suspect: bool
    retry: str | None
    schedule: str | None
    payload: str
    ref: TaskRef = field(init=False)
    """What the message said that led to this claim."""

    def __post_init__(self) -> None:
        self.ref = TaskRef(self.id, self.dispatch)


COLUMNS: Final = tuple(column.name for column in fields(ClaimedTask)[2:] if column.init)
"""Of a claimed task's row."""

# By name, and without a dictionary for each row.
_read_columns: Final = itemgetter(*COLUMNS)


# The fence. Postgres checks it again on a row that somebody changed since the statement began. It stands in a CASE,
# through which the planner cannot look: it would take running tasks for as rare as they are in the whole table, and
# read all of that to find them.
_CLAIMABLE: Final = f"""CASE WHEN t.dispatch = ref.dispatch
    THEN (t.status = ANY($4::text[]) AND (t.expires_at > now()) IS NOT FALSE)
        OR (t.status = '{Status.RUNNING}' AND t.worker = $3) END"""

_REFS: Final = "unnest($1::uuid[], $2::int[]) AS ref (id, dispatch)"

# The rows are locked, so that their places (ctid) stay until they are updated: by these Postgres needs no second way
# through the index. A row that was updated since the statement began is not found there, and counts as locked.
STEPS: Final = f"""
    free AS (
        SELECT t.ctid FROM {_REFS} JOIN aftercommit.tasks t ON t.id = ref.id
        WHERE {_CLAIMABLE}
        ORDER BY t.id FOR NO KEY UPDATE OF t SKIP LOCKED
    ), claimed AS (
        UPDATE aftercommit.tasks t
        SET attempt = t.attempt + (t.status <> '{Status.RUNNING}')::int,
            status = '{Status.RUNNING}', worker = $3, started_at = now(),
            first_started_at = coalesce(t.first_started_at, now()), due_at = NULL
        FROM free WHERE t.ctid = free.ctid
        RETURNING t.id, t.dispatch, t.type, t.queue, t.priority, t.attempt, t.attempt - t.uncharged AS charged,
            t.max_retries, t.timeout_seconds, t.tags, t.created_at, t.queued_at, t.started_at,
            t.expires_at, t.retry, t.schedule, coalesce(t.error ->> 'type' IN {SUSPICIOUS}, false) AS suspect, t.payload
    ), held AS (
        INSERT INTO aftercommit.claims AS c (id, worker, task_ids)
            SELECT $5, $3, array_agg(id) FROM claimed HAVING count(*) > 0
        ON CONFLICT (id) DO UPDATE
            SET task_ids = ARRAY(SELECT unnest(c.task_ids) UNION SELECT unnest(excluded.task_ids))
    )
"""
"""The common table expressions of a claim: ``claimed`` are its rows. $1 to $5 are ``arguments``."""

_CLAIM: Final = f"WITH {STEPS} SELECT * FROM claimed"

_FIND_CLAIMABLE: Final = f"""
    SELECT t.id, t.dispatch FROM {_REFS} JOIN aftercommit.tasks t ON t.id = ref.id WHERE {_CLAIMABLE}
"""

_FORGET: Final = "DELETE FROM aftercommit.claims WHERE id = ANY($1::uuid[])"


async def claim(fetch: Fetch, refs: Sequence[TaskRef], *, worker: str, claim_id: UUID) -> list[ClaimedTask]:
    """Claim the tasks that still wait for exactly these dispatches.

    What is not among the claimed is stale or past its ``expires_at``, or somebody else holds its row locked: the claim
    skips such rows instead of waiting for them, and ``find_claimable`` tells which they are.

    The row ``claim_id`` of ``claims`` lists the claimed tasks until their outcomes are recorded, for the rescuer.

    Locks the rows in id order, by primary key. A task that already runs for this very worker is claimed again,
    uncounted: the commit of an earlier claim went through although its answer was lost. The caller therefore asks
    again with the same ``claim_id``, and keeps back the tasks that it really runs or is about to claim.
    """
    rows = await fetch(_CLAIM, *arguments(refs, worker=worker, claim_id=claim_id))
    return [read(row, worker=worker, claim_id=claim_id) for row in rows]


async def find_claimable(fetch: Fetch, refs: Collection[TaskRef], *, worker: str) -> set[TaskRef]:
    """Those of ``refs`` that ``claim`` would claim: right after a claim that skipped them, their rows are locked.

    Locks nothing; reads by primary key.
    """
    rows = await fetch(_FIND_CLAIMABLE, *_fence_arguments(refs, worker))
    return {TaskRef(row["id"], row["dispatch"]) for row in rows}


async def forget(fetch: Fetch, claim_ids: Sequence[UUID]) -> None:
    """Delete the rows of claims of which every outcome is recorded. Locks them by primary key."""
    await fetch(_FORGET, claim_ids)


def read(row: Any, *, worker: str, claim_id: UUID) -> ClaimedTask:
    """The task of a row of ``claimed``."""
    return ClaimedTask(claim_id, worker, *_read_columns(row))


def arguments(refs: Collection[TaskRef], *, worker: str, claim_id: UUID) -> tuple[object, ...]:
    """Of ``STEPS``."""
    return (*_fence_arguments(refs, worker), claim_id)


def _fence_arguments(refs: Collection[TaskRef], worker: str) -> tuple[object, ...]:
    return (
        [ref.task_id for ref in refs],
        [ref.dispatch for ref in refs],
        worker,
        states.SOURCES[Event.CLAIM],
    )
