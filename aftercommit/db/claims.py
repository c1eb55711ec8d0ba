"""The claim: waiting tasks become running ones, for one worker."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from aftercommit.core import states
from aftercommit.core.failures import SUSPICIOUS
from aftercommit.core.states import Event, Status
from aftercommit.core.task_ref import TaskRef
from aftercommit.db.database import Fetch


@dataclass(slots=True, kw_only=True)
class ClaimedTask:
    """A task that this worker now runs. ``charged`` counts the attempts, this one included, against max_retries;
    ``suspect``: it may be what took its workers down before."""

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
    suspect: bool
    payload: dict[str, Any]


# The order of the inner query is the order in which the rows are locked. The fence is looked at again for a row that
# somebody else changed meanwhile. It stands in a CASE, through which the planner cannot look: it would take running
# tasks for as rare as they are in the whole table, and read all of that to find them.
_CLAIM: Final = f"""
    WITH claimed AS (
        UPDATE aftercommit.tasks t
        SET attempt = t.attempt + (t.status <> '{Status.RUNNING}')::int,
            status = '{Status.RUNNING}', worker = $3, started_at = now(),
            first_started_at = coalesce(t.first_started_at, now()), due_at = NULL
        FROM (
            SELECT id, dispatch FROM unnest($1::uuid[], $2::int[]) AS u (id, dispatch) ORDER BY id
        ) AS ref
        WHERE t.id = ref.id AND CASE WHEN t.dispatch = ref.dispatch
            THEN t.status = ANY($4::text[]) OR (t.status = '{Status.RUNNING}' AND t.worker = $3) END
        RETURNING t.id, t.dispatch, t.type, t.queue, t.priority, t.attempt, t.attempt - t.uncharged AS charged,
            t.max_retries, t.timeout_seconds, t.tags, t.created_at, t.queued_at, t.started_at,
            coalesce(t.error ->> 'type' IN {SUSPICIOUS}, false) AS suspect, t.payload
    ), held AS (
        INSERT INTO aftercommit.claims (id, worker, task_ids)
            SELECT $5, $3, array_agg(id) FROM claimed HAVING count(*) > 0
        ON CONFLICT (id) DO NOTHING
    )
    SELECT * FROM claimed
"""


async def claim(fetch: Fetch, refs: Sequence[TaskRef], *, worker: str, claim_id: UUID) -> list[ClaimedTask]:
    """Claim the tasks that still wait for exactly these dispatches; the others are stale.

    The row ``claim_id`` of ``claims`` lists them until their outcomes are recorded, for the rescuer.

    Locks the rows in id order, by primary key. A task that already runs for this very worker is claimed again,
    uncounted: the commit of an earlier claim went through although its answer was lost. The caller therefore asks
    again with the same ``claim_id``, and keeps back the tasks that it really runs or is about to claim.
    """
    rows = await fetch(
        _CLAIM,
        [ref.task_id for ref in refs],
        [ref.dispatch for ref in refs],
        worker,
        states.SOURCES[Event.CLAIM],
        claim_id,
    )
    return [
        ClaimedTask(claim_id=claim_id, worker=worker, **{**row, "payload": json.loads(row["payload"])}) for row in rows
    ]
