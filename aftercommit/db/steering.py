"""Statements that steer one task on a client's request: send out again, complete by hand."""

from typing import Final
from uuid import UUID

from aftercommit.core import states
from aftercommit.core.features import Feature
from aftercommit.core.states import Event, Status
from aftercommit.db import outbox
from aftercommit.db.database import Fetch

_RESUBMIT: Final = f"""
    WITH ended AS (
        SELECT id, attempt, status, worker, started_at, finished_at, error,
            CASE WHEN $3::json IS NOT NULL THEN payload END AS replaced
        FROM aftercommit.tasks
        WHERE id = $1 AND status = ANY($2::text[]) AND (features & {Feature.UNIQUE:d} = 0 OR $4) FOR UPDATE
    ), history AS (
        INSERT INTO aftercommit.attempts AS a
            (task_id, attempt, outcome, worker, started_at, finished_at, error, payload)
        SELECT id, attempt, CASE status WHEN '{Status.FAILED}' THEN 'completed' ELSE status END,
            worker, started_at, finished_at, error, replaced
        FROM ended WHERE attempt > 0 OR replaced IS NOT NULL
        ON CONFLICT (task_id, attempt) DO UPDATE SET payload = excluded.payload
            WHERE a.payload IS NULL AND excluded.payload IS NOT NULL
    ), task AS (
        UPDATE aftercommit.tasks t
        SET status = '{Status.QUEUED}', dispatch = t.dispatch + 1, uncharged = t.attempt, enqueued = true,
            queued_at = now(), due_at = NULL, finished_at = NULL, result = NULL, error = NULL,
            payload = coalesce($3::json, t.payload),
            result_expires_at = NULL, cancel_reason = NULL,
            expires_at = CASE WHEN t.expires_at > now() THEN t.expires_at END
        FROM ended WHERE t.id = ended.id
        RETURNING t.id, t.queue, t.priority, t.dispatch
    ), sent AS (
        {outbox.insert("task")}
    )
    SELECT id FROM task
"""


async def resubmit(fetch: Fetch, task_id: UUID, *, payload: str | None = None, key_locked: bool = False) -> bool:
    """Send a final task out again with all its retries before it; whether it was final. One with a unique key is left
    alone unless the caller has locked that, ``key_locked``.

    Its last attempt goes into the history, where only a success or an outcome recorded by hand does not stand yet. A
    deadline that has passed no longer holds. ``payload``, JSON text, replaces its payload, which the history keeps with
    the last attempt that ran with it. Of a task that was never started it keeps the first as attempt 0.
    """
    return bool(await fetch(_RESUBMIT, task_id, states.SOURCES[Event.RESUBMIT], payload, key_locked))


_COMPLETE: Final = f"""
    WITH task AS (
        UPDATE aftercommit.tasks
        SET status = CASE WHEN $4::json IS NULL THEN '{Status.SUCCEEDED}' ELSE '{Status.FAILED}' END,
            result = $3::json, error = $4::json, finished_at = now(), due_at = NULL,
            enqueued = true, dispatch = greatest(dispatch, 1), features = features & ~{Feature.CANCELLING:d},
            cancel_reason = NULL,
            result_expires_at = CASE WHEN $4::json IS NULL THEN now() + result_ttl_seconds * interval '1 second' END
        WHERE id = $1 AND status = ANY($2::text[])
        RETURNING id, queue, priority, dispatch, error
    ), dead_letter AS (
        {outbox.insert("task WHERE error IS NOT NULL", dead_reason="$5::text")}
    )
    SELECT id FROM task
"""


async def complete(fetch: Fetch, task_id: UUID, *, result: str | None, error: str | None, reason: str) -> bool:
    """Record an outcome by hand (JSON texts); whether the task was unfinished. A failure becomes a dead letter.

    A worker that runs the task finds its own outcome fenced out.
    """
    return bool(await fetch(_COMPLETE, task_id, states.SOURCES[Event.COMPLETE], result, error, reason))
