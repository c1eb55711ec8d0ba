"""The record of finished attempts: the task, its history, and the outbox row of what follows, in one statement."""

from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

from aftercommit.core import failures
from aftercommit.core.features import Feature
from aftercommit.core.outcomes import Outcome
from aftercommit.core.states import Event, Status, target
from aftercommit.db import outbox
from aftercommit.db.database import Fetch

AttemptKey = tuple[UUID, int]
"""A task and the number of its attempt."""

_WAITS_AGAIN: Final = f"('{Status.RETRYING}', '{Status.QUEUED}')"
_UNCHARGED: Final = f"('{Event.RELEASE}', '{Event.SNOOZE}')"

# The fence. Postgres checks it again on a row that somebody changed since the statement began; it stands in a CASE for
# the reason that ``claims`` gives.
STILL_RUNS: Final = f"CASE WHEN t.status = '{Status.RUNNING}' THEN t.attempt = o.attempt AND t.worker = o.worker END"

SNOOZES_KEPT: Final = 100
"""How many attempts back the history keeps those that snoozed: a task may do so for ever."""

NOT_CANCELLING: Final = f"t.features & {Feature.CANCELLING:d} = 0"


def cancelled_error(reason: str) -> str:
    """The error of a cancelled task; ``reason`` is an SQL expression."""
    return f"""json_build_object(
        'type', '{failures.CANCELLED}', 'message', coalesce({reason}, 'cancelled on request'), 'traceback', NULL
    )"""


_SENT: Final = outbox.insert(
    f"recorded WHERE enqueued AND status IN ('{Status.RETRYING}', '{Status.QUEUED}', '{Status.FAILED}')",
    delay_seconds="wait_seconds::int",
    dead_reason=f"CASE status WHEN '{Status.FAILED}' THEN reason END",
)

_OUTCOMES: Final = """unnest(
    $1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::json[], $7::json[], $8::float8[], $9::bool[],
    $10::text[]
) AS o (id, attempt, worker, event, status, result, error, wait_seconds, by_broker, reason)"""

# What became of a task that is to be cancelled no longer matters: its code has stopped.
_JUDGED: Final = f"""
    SELECT o.id, o.attempt, o.worker, o.result, o.reason, t.ctid AS place,
        CASE WHEN {NOT_CANCELLING} THEN o.event ELSE '{Event.STOP}' END AS event,
        CASE WHEN {NOT_CANCELLING} THEN o.status ELSE '{Status.CANCELLED}' END AS status,
        CASE WHEN {NOT_CANCELLING} THEN o.error ELSE {cancelled_error("t.cancel_reason")} END AS error,
        CASE WHEN {NOT_CANCELLING} THEN o.wait_seconds END AS wait_seconds,
        o.by_broker
    FROM {_OUTCOMES} JOIN aftercommit.tasks t ON t.id = o.id
"""


# ``place`` is the row's ctid, see ``claims``.
def _record(condition: str, locking: str) -> str:
    return f"""
    WITH free AS (
        {_JUDGED} WHERE {condition} ORDER BY t.id FOR NO KEY UPDATE OF t {locking}
    ), recorded AS (
        UPDATE aftercommit.tasks t
        SET status = o.status, result = CASE o.status WHEN '{Status.SUCCEEDED}' THEN o.result END, error = o.error,
            finished_at = CASE WHEN o.status NOT IN {_WAITS_AGAIN} THEN now() END,
            dispatch = t.dispatch + (o.status IN {_WAITS_AGAIN})::int,
            uncharged = t.uncharged + (o.event IN {_UNCHARGED})::int,
            queued_at = CASE WHEN o.status IN {_WAITS_AGAIN} THEN now() ELSE t.queued_at END,
            due_at = now() + o.wait_seconds * interval '1 second',
            enqueued = o.wait_seconds IS NULL OR o.by_broker,
            features = t.features & ~{Feature.CANCELLING:d},
            result_expires_at =
                CASE o.status WHEN '{Status.SUCCEEDED}' THEN now() + t.result_ttl_seconds * interval '1 second' END
        FROM free o WHERE t.ctid = o.place
        RETURNING t.id, t.queue, t.priority, t.dispatch, t.status, t.attempt, t.worker,
            t.started_at, t.error, t.enqueued, o.wait_seconds, o.reason, o.event
    ), history AS (
        INSERT INTO aftercommit.attempts (task_id, attempt, outcome, worker, started_at, error)
        SELECT id, attempt,
            CASE event WHEN '{Event.RETRY}' THEN 'retried' WHEN '{Event.RELEASE}' THEN 'released'
                WHEN '{Event.SNOOZE}' THEN 'snoozed' ELSE status END,
            worker, started_at, error
        FROM recorded WHERE status <> '{Status.SUCCEEDED}'
    ), forgotten AS (
        DELETE FROM aftercommit.attempts a USING recorded
        WHERE recorded.event = '{Event.SNOOZE}' AND a.task_id = recorded.id
            AND a.attempt = recorded.attempt - {SNOOZES_KEPT} AND a.outcome = 'snoozed'
    ), sent AS (
        {_SENT}
    ), closed AS (
        DELETE FROM aftercommit.claims
        WHERE id = ANY($11::uuid[]) AND (SELECT count(*) FROM recorded) = cardinality($1::uuid[])
    )
    SELECT id, attempt, event FROM recorded
"""


_RECORD: Final = _record(STILL_RUNS, "SKIP LOCKED")
_RECORD_OWN: Final = _record(f"{STILL_RUNS} AND {NOT_CANCELLING}", "")

_FIND_RUNNING: Final = f"""
    SELECT t.id, t.attempt FROM unnest($1::uuid[], $2::int[], $3::text[]) AS o (id, attempt, worker)
    JOIN aftercommit.tasks t ON t.id = o.id
    WHERE {STILL_RUNS}
"""


async def record(fetch: Fetch, outcomes: Sequence[Outcome], *, closed: Sequence[UUID] = ()) -> dict[AttemptKey, Event]:
    """Record outcomes; returns those that are in, and what ended each: a task that was to be cancelled is, whatever its
    outcome.

    An outcome that is not among them is fenced out (the task no longer runs this attempt for this worker), or somebody
    else holds its row locked: such rows are skipped, and ``find_running`` tells which they are. When all outcomes are
    in, the claims that are ``closed`` by them are forgotten.

    Of a task that snoozes the history keeps the last SNOOZES_KEPT times. Locks the rows in id order, by primary key.
    Run again after a lost answer it changes nothing.
    """
    rows = await fetch(_RECORD, *_arguments(outcomes), closed)
    return {(row["id"], row["attempt"]): Event(row["event"]) for row in rows}


async def record_own(fetch: Fetch, outcome: Outcome) -> bool:
    """Record the outcome of an attempt in its own transaction; False when it is fenced out or is to be cancelled.

    Waits for a row that somebody else holds locked.
    """
    return bool(await fetch(_RECORD_OWN, *_arguments([outcome]), ()))


def _arguments(outcomes: Sequence[Outcome]) -> tuple[object, ...]:
    return (
        [outcome.task_id for outcome in outcomes],
        [outcome.attempt for outcome in outcomes],
        [outcome.worker for outcome in outcomes],
        [outcome.ending for outcome in outcomes],
        [target(outcome.ending, Status.RUNNING) for outcome in outcomes],
        [outcome.result for outcome in outcomes],
        [outcome.error for outcome in outcomes],
        [outcome.delay.seconds if outcome.delay else None for outcome in outcomes],
        [bool(outcome.delay and outcome.delay.by_broker) for outcome in outcomes],
        [outcome.reason for outcome in outcomes],
    )


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
