"""The submit statement: tasks, their outbox rows and the claim of idempotency keys, in one round trip."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from aftercommit.core.queues import Priority
from aftercommit.core.states import Status
from aftercommit.db.database import Fetch
from aftercommit.db.idempotency import KEY_HOURS


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
        RETURNING id, queue, priority
    ), sent AS (
        INSERT INTO aftercommit.outbox (work_queue, task_id, dispatch) SELECT queue || '.' || priority, id, 1 FROM task
    )
    SELECT now() AS created_at, ARRAY(SELECT key FROM claimed_key) AS free_keys
"""


async def submit(fetch: Fetch, submissions: Sequence[Submission]) -> tuple[datetime, frozenset[str]]:
    """Insert tasks and their outbox rows in one statement, all or nothing; returns when they were created and which
    keys were free. A submission whose key is not among these inserted nothing: another request holds it.

    A key may come once. Two requests with one key wait for each other on the key's row; keys are locked in their
    order. An id that exists is refused.
    """
    keyed = [(each.key, each.tasks) for each in submissions if each.key is not None]
    new = [(task, each.key) for each in submissions for task in each.tasks]
    (row,) = await fetch(
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
    )
    return row["created_at"], frozenset(row["free_keys"])


def array_literal(items: Sequence[str]) -> str:
    """A Postgres array in its text form: ``unnest`` would flatten an array of arrays."""
    if not items:
        return "{}"
    quoted = (item.replace("\\", "\\\\").replace('"', '\\"') for item in items)
    return "{" + ",".join(f'"{item}"' for item in quoted) + "}"
