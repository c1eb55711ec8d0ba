"""The record of finished attempts: the task, its history, and the outbox row of what follows, in one statement."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.lifecycle import Status, target
from app.outcomes import Outcome

_WAITS_AGAIN: Final = f"('{Status.RETRYING}', '{Status.QUEUED}')"

_RECORD: Final = text(f"""
    WITH outcome AS (
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:attempts AS int[]), CAST(:statuses AS text[]), CAST(:results AS json[]),
            CAST(:errors AS json[]), CAST(:waits AS float8[]), CAST(:by_broker AS bool[]), CAST(:reasons AS text[]),
            CAST(:workers AS text[])
        ) AS o (id, attempt, status, result, error, wait_seconds, by_broker, reason, worker)
    ), held AS (
        SELECT t.id, t.attempt, t.worker FROM tasks t JOIN outcome o ON o.id = t.id AND o.attempt = t.attempt
        WHERE t.status = '{Status.RUNNING}' AND t.worker = o.worker
        ORDER BY t.id
        FOR UPDATE OF t
    ), recorded AS (
        UPDATE tasks t
        SET status = o.status, result = o.result, error = o.error,
            finished_at = CASE WHEN o.status NOT IN {_WAITS_AGAIN} THEN now() END,
            dispatch = t.dispatch + (o.status IN {_WAITS_AGAIN})::int,
            uncharged = t.uncharged + (o.status = '{Status.QUEUED}')::int,
            queued_at = CASE WHEN o.status IN {_WAITS_AGAIN} THEN now() ELSE t.queued_at END,
            due_at = now() + o.wait_seconds * interval '1 second',
            rung = o.wait_seconds IS NULL OR o.by_broker
        FROM outcome o JOIN held ON held.id = o.id AND held.attempt = o.attempt AND held.worker = o.worker
        WHERE t.id = o.id
        RETURNING t.id, t.queue || '.' || t.priority AS work_queue, t.dispatch, t.status, t.attempt, t.worker,
            t.started_at, t.error, t.rung, o.wait_seconds, o.reason
    ), history AS (
        INSERT INTO attempts (task_id, attempt, outcome, worker, started_at, error)
        SELECT id, attempt,
            CASE status WHEN '{Status.RETRYING}' THEN 'retried' WHEN '{Status.QUEUED}' THEN 'released' ELSE status END,
            worker, started_at, error
        FROM recorded WHERE status <> '{Status.SUCCEEDED}'
    ), sent AS (
        INSERT INTO outbox (work_queue, task_id, dispatch, delay_seconds, dead_reason)
        SELECT work_queue, id, dispatch, wait_seconds::int, CASE status WHEN '{Status.FAILED}' THEN reason END
        FROM recorded WHERE rung AND status <> '{Status.SUCCEEDED}'
    ), closed AS (
        DELETE FROM claims WHERE id = ANY(CAST(:closed AS uuid[]))
    )
    SELECT id, attempt FROM recorded
""")


async def record(
    connection: AsyncConnection, outcomes: Sequence[Outcome], *, closed: Sequence[UUID] = ()
) -> set[tuple[UUID, int]]:
    """Record outcomes and forget the claims that are ``closed`` by them; returns the taken ones as (task, attempt).

    Fenced: a task that no longer runs this attempt for this worker is left as it is. Locks the rows in id order, by
    primary key. Run again after a lost answer it changes nothing.
    """
    result = await connection.execute(
        _RECORD,
        {
            "ids": [outcome.task_id for outcome in outcomes],
            "attempts": [outcome.attempt for outcome in outcomes],
            "statuses": [target(outcome.ending, Status.RUNNING) for outcome in outcomes],
            "results": [outcome.result for outcome in outcomes],
            "errors": [outcome.error for outcome in outcomes],
            "waits": [outcome.delay.seconds if outcome.delay else None for outcome in outcomes],
            "by_broker": [bool(outcome.delay and outcome.delay.by_broker) for outcome in outcomes],
            "reasons": [outcome.reason for outcome in outcomes],
            "workers": [outcome.worker for outcome in outcomes],
            "closed": list(closed),
        },
    )
    return {(row[0], row[1]) for row in result}
