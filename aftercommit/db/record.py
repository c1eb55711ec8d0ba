"""The record of finished attempts: the task, its history, and the outbox row of what follows, in one statement."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from aftercommit.core.outcomes import Outcome
from aftercommit.core.states import Status, target
from aftercommit.db.database import Fetch

_WAITS_AGAIN: Final = f"('{Status.RETRYING}', '{Status.QUEUED}')"

# The order of the inner query is the order in which the rows are locked. The fence is looked at again for a row that
# somebody else changed meanwhile; it stands in a CASE for the reason that ``claims`` gives.
_RECORD: Final = f"""
    WITH recorded AS (
        UPDATE aftercommit.tasks t
        SET status = o.status, result = o.result, error = o.error,
            finished_at = CASE WHEN o.status NOT IN {_WAITS_AGAIN} THEN now() END,
            dispatch = t.dispatch + (o.status IN {_WAITS_AGAIN})::int,
            uncharged = t.uncharged + (o.status = '{Status.QUEUED}')::int,
            queued_at = CASE WHEN o.status IN {_WAITS_AGAIN} THEN now() ELSE t.queued_at END,
            due_at = now() + o.wait_seconds * interval '1 second',
            enqueued = o.wait_seconds IS NULL OR o.by_broker
        FROM (
            SELECT * FROM unnest(
                $1::uuid[], $2::int[], $3::text[], $4::text[], $5::json[], $6::json[], $7::float8[], $8::bool[],
                $9::text[]
            ) AS u (id, attempt, worker, status, result, error, wait_seconds, by_broker, reason)
            ORDER BY id
        ) AS o
        WHERE t.id = o.id
            AND CASE WHEN t.status = '{Status.RUNNING}' THEN t.attempt = o.attempt AND t.worker = o.worker END
        RETURNING t.id, t.queue || '.' || t.priority AS work_queue, t.dispatch, t.status, t.attempt, t.worker,
            t.started_at, t.error, t.enqueued, o.wait_seconds, o.reason
    ), history AS (
        INSERT INTO aftercommit.attempts (task_id, attempt, outcome, worker, started_at, error)
        SELECT id, attempt,
            CASE status WHEN '{Status.RETRYING}' THEN 'retried' WHEN '{Status.QUEUED}' THEN 'released' ELSE status END,
            worker, started_at, error
        FROM recorded WHERE status <> '{Status.SUCCEEDED}'
    ), sent AS (
        INSERT INTO aftercommit.outbox (work_queue, task_id, dispatch, delay_seconds, dead_reason)
        SELECT work_queue, id, dispatch, wait_seconds::int, CASE status WHEN '{Status.FAILED}' THEN reason END
        FROM recorded WHERE enqueued AND status <> '{Status.SUCCEEDED}'
    ), closed AS (
        DELETE FROM aftercommit.claims WHERE id = ANY($10::uuid[])
    )
    SELECT id, attempt FROM recorded
"""


async def record(fetch: Fetch, outcomes: Sequence[Outcome], *, closed: Sequence[UUID] = ()) -> set[tuple[UUID, int]]:
    """Record outcomes and forget the claims that are ``closed`` by them; returns the taken ones as (task, attempt).

    Fenced: a task that no longer runs this attempt for this worker is left as it is. Locks the rows in id order, by
    primary key. Run again after a lost answer it changes nothing.
    """
    rows = await fetch(
        _RECORD,
        [outcome.task_id for outcome in outcomes],
        [outcome.attempt for outcome in outcomes],
        [outcome.worker for outcome in outcomes],
        [target(outcome.ending, Status.RUNNING) for outcome in outcomes],
        [outcome.result for outcome in outcomes],
        [outcome.error for outcome in outcomes],
        [outcome.delay.seconds if outcome.delay else None for outcome in outcomes],
        [bool(outcome.delay and outcome.delay.by_broker) for outcome in outcomes],
        [outcome.reason for outcome in outcomes],
        closed,
    )
    return {(row["id"], row["attempt"]) for row in rows}
