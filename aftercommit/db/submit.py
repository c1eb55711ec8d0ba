"""The submit statement: tasks, their outbox rows and the claim of idempotency keys, in one round trip."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from aftercommit.core.features import Feature
from aftercommit.core.queues import Priority
from aftercommit.core.states import Status
from aftercommit.core.uniqueness import Uniqueness
from aftercommit.db import eager_rows, outbox
from aftercommit.db.database import Fetch
from aftercommit.db.idempotency import KEY_HOURS
from aftercommit.db.outbox import OutboxRow

SOON: Final = timedelta(minutes=1)
"""What falls due within this wakes the scheduler, which may sleep for as long."""


@dataclass(slots=True, kw_only=True)  # not frozen: that takes longer than all checks of a plain task
class NewTask:
    """A task as submitted. ``payload``, ``retry`` (its own delays) and ``schedule`` (what made it) are JSON texts; None
    leaves an option to the handler and the settings. With ``run_at`` or ``delay`` it is scheduled, unless that time has
    come; it expires at ``expires_at``, or ``expires_in`` after it was submitted."""

    id: UUID
    type: str
    payload: str
    queue: str = "tasks"
    priority: Priority = Priority.MEDIUM
    max_retries: int | None = None
    timeout_seconds: float | None = None
    tags: tuple[str, ...] = ()
    run_at: datetime | None = None
    delay: timedelta | None = None
    expires_at: datetime | None = None
    expires_in: timedelta | None = None
    retry: str | None = None
    result_ttl_seconds: float | None = None
    schedule: str | None = None
    unique: Uniqueness | None = None
    features: Feature = Feature.PLAIN

    @property
    def rich(self) -> tuple[object, ...] | None:
        """What ``_SUBMIT_RICH`` takes beside what every task has; None for a plain task."""
        values = (
            self.run_at,
            self.delay,
            self.expires_at,
            self.expires_in,
            self.retry,
            self.result_ttl_seconds,
            self.schedule,
            self.unique.stored if self.unique is not None else None,
            int(self.features),  # asyncpg takes a flag for an array: it can be iterated
        )
        return None if values == _PLAIN else values

    def expiry(self, created_at: datetime) -> datetime | None:
        """When it expires. As the statement has it."""
        return created_at + self.expires_in if self.expires_in is not None else self.expires_at

    def due_at(self, created_at: datetime) -> datetime | None:
        """When it is to be sent out; None: at once. As the statement has it."""
        due_at = created_at + self.delay if self.delay is not None else self.run_at
        return due_at if due_at is not None and due_at > created_at else None


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    key: str
    request_hash: bytes


@dataclass(frozen=True, slots=True)
class Submission:
    """What one request submits: all of its tasks or, when another request holds its ``key``, none.

    ``answered``: the tasks that its key stands for, where they are not just the new ones.
    """

    tasks: Sequence[NewTask]
    key: IdempotencyKey | None = None
    answered: Sequence[UUID] | None = None


@dataclass(frozen=True, slots=True)
class Eager:
    """What the caller publishes by itself after the commit, and what it has published before."""

    work_queues: Sequence[str] = ()
    """It takes the rows for these; the others belong to the relays."""

    grace_seconds: float = 0.0
    """After so long the relays take its rows as well."""

    published: Sequence[int] = ()
    """Ids of its rows that RabbitMQ confirmed: they are deleted along."""


NOT_EAGER: Final = Eager()


@dataclass(frozen=True, slots=True)
class Committed:
    """``free_keys``: the keys of which the tasks were made. ``rows``: what the caller publishes."""

    created_at: datetime
    free_keys: frozenset[str]
    rows: Sequence[OutboxRow]
    some_fall_due_soon: bool = False


_EAGER_UNTIL: Final = (
    "CASE WHEN work_queue = ANY($14::text[]) THEN clock_timestamp() + $15::float8 * interval '1 second' END"
)


def _submit(columns: str, values: str, submitted: str, *, sent: str) -> str:
    """The statement, with further columns of tasks."""
    return f"""
    WITH claimed_key AS (
        INSERT INTO aftercommit.idempotency_keys AS k (key, request_hash, task_ids)
        SELECT key, request_hash, task_ids::uuid[]
        FROM unnest($1::text[], $2::bytea[], $3::text[]) AS keyed (key, request_hash, task_ids)
        ORDER BY key
        ON CONFLICT (key) DO UPDATE
            SET request_hash = excluded.request_hash, task_ids = excluded.task_ids, created_at = now()
            WHERE k.created_at < now() - interval '{KEY_HOURS} hours'
        RETURNING key
    ), task AS (
        INSERT INTO aftercommit.tasks
            (id, type, queue, priority, max_retries, timeout_seconds, tags, payload, {columns})
        SELECT id, type, queue, priority, max_retries, timeout_seconds, tags::text[], payload, {values}
        FROM {submitted}
        WHERE key IS NULL OR key IN (SELECT key FROM claimed_key)
        RETURNING id, queue, priority, dispatch
    ), sent AS (
        {outbox.insert(sent, eager_until=_EAGER_UNTIL)} RETURNING id, work_queue, task_ids, eager_until
    ), published AS (
        {eager_rows.DELETE_PUBLISHED.format(ids="$13::bigint[]")}
    )
    SELECT now() AS created_at, ARRAY(SELECT key FROM claimed_key) AS free_keys, sent.id, work_queue, task_ids
    FROM (SELECT) AS always LEFT JOIN sent ON eager_until IS NOT NULL
    """


_ARRAYS: Final = """
    $4::uuid[], $5::text[], $6::text[], $7::text[], $8::int[], $9::float8[], $10::text[], $11::json[], $12::text[]
"""
_NAMES: Final = "id, type, queue, priority, max_retries, timeout_seconds, tags, payload, key"

_SUBMIT: Final = _submit("status", f"'{Status.QUEUED}'", f"unnest({_ARRAYS}) AS submitted ({_NAMES})", sent="task")

# For a group of which a task is not plain.
_SUBMIT_RICH: Final = _submit(
    "status, dispatch, enqueued, due_at, expires_at, retry, result_ttl_seconds, schedule, uniqueness, features",
    f"CASE WHEN due_at > now() THEN '{Status.SCHEDULED}' ELSE '{Status.QUEUED}' END, (due_at > now() IS NOT TRUE)::int,"
    " due_at > now() IS NOT TRUE, CASE WHEN due_at > now() THEN due_at END, coalesce(now() + expires_in, expires_at),"
    " retry, result_ttl_seconds, schedule, uniqueness, features",
    f"""(
        SELECT *, coalesce(now() + delay, run_at) AS due_at
        FROM unnest(
            {_ARRAYS}, $16::timestamptz[], $17::interval[], $18::timestamptz[], $19::interval[], $20::json[],
            $21::float8[], $22::json[], $23::json[], $24::smallint[]
        ) AS given (
            {_NAMES}, run_at, delay, expires_at, expires_in, retry, result_ttl_seconds, schedule, uniqueness, features
        )
    ) AS submitted""",
    sent="task WHERE dispatch > 0",
)
_PLAIN: Final = (*(None,) * 8, 0)


async def submit(fetch: Fetch, submissions: Sequence[Submission], eager: Eager = NOT_EAGER) -> Committed:
    """Insert tasks and their outbox rows in one statement, all or nothing. A submission whose key is not among the free
    ones inserted nothing: another request holds it.

    A key may come once. Two requests with one key wait for each other on the key's row; keys are locked in their
    order. An id that exists is refused.
    """
    keyed = [(each.key, _ids(each)) for each in submissions if each.key is not None]
    new = [(task, each.key) for each in submissions for task in each.tasks]
    rich = [task.rich for task, _ in new]
    some_rich = any(rich)
    rows = await fetch(
        _SUBMIT_RICH if some_rich else _SUBMIT,
        [key.key for key, _ in keyed],
        [key.request_hash for key, _ in keyed],
        ["{" + ",".join(map(str, ids)) + "}" for _, ids in keyed],
        [task.id for task, _ in new],
        [task.type for task, _ in new],
        [task.queue for task, _ in new],
        [task.priority for task, _ in new],
        [task.max_retries for task, _ in new],
        [task.timeout_seconds for task, _ in new],
        [array_literal(task.tags) for task, _ in new],
        [task.payload for task, _ in new],
        [key.key if key else None for _, key in new],
        eager.published,
        eager.work_queues,
        eager.grace_seconds,
        *(zip(*(values or _PLAIN for values in rich), strict=True) if some_rich else ()),
    )
    own = [_first_sending(row["id"], row["work_queue"], row["task_ids"]) for row in rows if row["id"] is not None]
    created_at = rows[0]["created_at"]
    soon = some_rich and any(
        due_at < created_at + SOON for task, _ in new if (due_at := task.due_at(created_at)) is not None
    )
    return Committed(created_at, frozenset(rows[0]["free_keys"]), own, soon)


def _ids(submission: Submission) -> Sequence[UUID]:
    return [task.id for task in submission.tasks] if submission.answered is None else submission.answered


def _first_sending(row_id: int, work_queue: str, task_ids: Sequence[UUID]) -> OutboxRow:
    return OutboxRow(
        id=row_id,
        destination=work_queue,
        work_queue=work_queue,
        delay_seconds=None,
        task_ids=task_ids,
        dispatches=[1] * len(task_ids),
        dead_reason=None,
        body=None,
    )


def array_literal(items: Sequence[str]) -> str:
    """A Postgres array in its text form: ``unnest`` would flatten an array of arrays."""
    if not items:
        return "{}"
    quoted = (item.replace("\\", "\\\\").replace('"', '\\"') for item in items)
    return "{" + ",".join(f'"{item}"' for item in quoted) + "}"
