"""The submit statement: tasks, their outbox rows and the claim of idempotency keys, in one round trip."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from aftercommit.core.queues import Priority
from aftercommit.core.states import Status
from aftercommit.db import eager_rows, outbox
from aftercommit.db.database import Fetch
from aftercommit.db.idempotency import KEY_HOURS
from aftercommit.db.outbox import OutboxRow


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A task as submitted. ``payload`` is JSON text; None leaves an option to the handler and the settings."""

    id: UUID
    type: str
    payload: str
    queue: str = "tasks"
    priority: Priority = Priority.MEDIUM
    max_retries: int | None = None
    timeout_seconds: float | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    key: str
    request_hash: bytes


@dataclass(frozen=True, slots=True)
class Submission:
    """What one request submits: all of its tasks or, when another request holds its ``key``, none."""

    tasks: Sequence[NewTask]
    key: IdempotencyKey | None = None


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


_EAGER_UNTIL: Final = (
    "CASE WHEN work_queue = ANY($14::text[]) THEN clock_timestamp() + $15::float8 * interval '1 second' END"
)

_SUBMIT: Final = f"""
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
        INSERT INTO aftercommit.tasks (id, type, queue, priority, status, max_retries, timeout_seconds, tags, payload)
        SELECT id, type, queue, priority, '{Status.QUEUED}', max_retries, timeout_seconds, tags::text[], payload
        FROM unnest(
            $4::uuid[], $5::text[], $6::text[], $7::text[], $8::int[], $9::float8[], $10::text[], $11::json[],
            $12::text[]
        ) AS submitted (id, type, queue, priority, max_retries, timeout_seconds, tags, payload, key)
        WHERE key IS NULL OR key IN (SELECT key FROM claimed_key)
        RETURNING id, queue, priority, dispatch
    ), sent AS (
        {outbox.insert("task", eager_until=_EAGER_UNTIL)} RETURNING id, work_queue, task_ids, eager_until
    ), published AS (
        {eager_rows.DELETE_PUBLISHED.format(ids="$13::bigint[]")}
    )
    SELECT now() AS created_at, ARRAY(SELECT key FROM claimed_key) AS free_keys, sent.id, work_queue, task_ids
    FROM (SELECT) AS always LEFT JOIN sent ON eager_until IS NOT NULL
"""


async def submit(fetch: Fetch, submissions: Sequence[Submission], eager: Eager = NOT_EAGER) -> Committed:
    """Insert tasks and their outbox rows in one statement, all or nothing. A submission whose key is not among the free
    ones inserted nothing: another request holds it.

    A key may come once. Two requests with one key wait for each other on the key's row; keys are locked in their
    order. An id that exists is refused.
    """
    keyed = [(each.key, each.tasks) for each in submissions if each.key is not None]
    new = [(task, each.key) for each in submissions for task in each.tasks]
    rows = await fetch(
        _SUBMIT,
        [key.key for key, _ in keyed],
        [key.request_hash for key, _ in keyed],
        ["{" + ",".join(str(task.id) for task in tasks) + "}" for _, tasks in keyed],
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
    )
    own = [_first_sending(row["id"], row["work_queue"], row["task_ids"]) for row in rows if row["id"] is not None]
    return Committed(rows[0]["created_at"], frozenset(rows[0]["free_keys"]), own)


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
