"""The record of finished attempts: the task, its history, and the outbox row of what follows, in one statement."""

from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

from aftercommit.core.outcomes import Outcome
from aftercommit.core.states import Status, target
from aftercommit.db import outbox
from aftercommit.db.database import Fetch

AttemptKey = tuple[UUID, int]
"""A task and the number of its attempt."""

_WAITS_AGAIN: Final = f"('{Status.RETRYING}', '{Status.QUEUED}')"

# The fence. Postgres checks it again on a row that somebody changed since the statement began; it stands in a CASE for
# the reason that ``claims`` gives.
STILL_RUNS: Final = f"CASE WHEN t.status = '{Status.RUNNING}' THEN t.attempt = o.attempt AND t.worker = o.worker END"


_SENT: Final = outbox.insert(
    f"recorded WHERE enqueued AND status <> '{Status.SUCCEEDED}'",
    delay_seconds="wait_seconds::int",
    dead_reason=f"CASE status WHEN '{Status.FAILED}' THEN reason END",
)


# ``place`` is the row's ctid, see ``claims``.
def _record(locking: str) -> str:
    return f"""
    WITH free AS (
        SELECT o.*, t.ctid AS place FROM unnest(
            $1::uuid[], $2::int[], $3::text[], $4::text[], $5::json[], $6::json[], $7::float8[], $8::bool[], $9::text[]
        ) AS o (id, attempt, worker, status, result, error, wait_seconds, by_broker, reason)
        JOIN aftercommit.tasks t ON t.id = o.id
        WHERE {STILL_RUNS}
        ORDER BY t.id FOR NO KEY UPDATE OF t {locking}
    ), recorded AS (
        UPDATE aftercommit.tasks t
        SET status = o.status, result = o.result, error = o.error,
            finished_at = CASE WHEN o.status NOT IN {_WAITS_AGAIN} THEN now() END,
            dispatch = t.dispatch + (o.status IN {_WAITS_AGAIN})::int,
            uncharged = t.uncharged + (o.status = '{Status.QUEUED}')::int,
            queued_at = CASE WHEN o.status IN {_WAITS_AGAIN} THEN now() ELSE t.queued_at END,
            due_at = now() + o.wait_seconds * interval '1 second',
            enqueued = o.wait_seconds IS NULL OR o.by_broker
        FROM free o WHERE t.ctid = o.place
        RETURNING t.id, t.queue, t.priority, t.dispatch, t.status, t.attempt, t.worker,
            t.started_at, t.error, t.enqueued, o.wait_seconds, o.reason
    ), history AS (
        INSERT INTO aftercommit.attempts (task_id, attempt, outcome, worker, started_at, error)
        SELECT id, attempt,
            CASE status WHEN '{Status.RETRYING}' THEN 'retried' WHEN '{Status.QUEUED}' THEN 'released' ELSE status END,
            worker, started_at, error
        FROM recorded WHERE status <> '{Status.SUCCEEDED}'
    ), sent AS (
        {_SENT}
    ), closed AS (
        DELETE FROM aftercommit.claims
        WHERE id = ANY($10::uuid[]) AND (SELECT count(*) FROM recorded) = cardinality($1::uuid[])
    )
    SELECT id, attempt FROM recorded
"""


_RECORD: Final = _record("SKIP LOCKED")
_RECORD_WAITING: Final = _record("")

_FIND_RUNNING: Final = f"""
    SELECT t.id, t.attempt FROM unnest($1::uuid[], $2::int[], $3::text[]) AS o (id, attempt, worker)
    JOIN aftercommit.tasks t ON t.id = o.id
    WHERE {STILL_RUNS}
"""


async def record(
    fetch: Fetch, outcomes: Sequence[Outcome], *, closed: Sequence[UUID] = (), wait_for_locks: bool = False
) -> set[AttemptKey]:
    """Record outcomes; returns those that are in.

    An outcome that is not among them is fenced out (the task no longer runs this attempt for this worker), or somebody
    else holds its row locked: such rows are skipped, unless ``wait_for_locks``, and ``find_running`` tells which they
    are. When all outcomes are in, the claims that are ``closed`` by them are forgotten.

    Locks the rows in id order, by primary key. Run again after a lost answer it changes nothing.
    """
    rows = await fetch(
        _RECORD_WAITING if wait_for_locks else _RECORD,
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


async def find_running(fetch: Fetch, outcomes: Collection[Outcome]) -> set[AttemptKey]:
    """The attempts that ``record`` would still take: right after one that skipped them, their rows are locked.

    Locks nothing; reads by primary key.
    """
    rows = await fetch(
        _FIND_RUNNING,
        [outcome.task_id for outcome in outcomes],
        [outcome.attempt for outcome in outcomes],
        [outcome.worker for outcome in outcomes],
    )
    return {(row["id"], row["attempt"]) for row in rows}
