"""Statements of the rescuer: running tasks that their worker will not end, and claims that nobody needs any more."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from aftercommit.core.failures import SUSPICIOUS, WORKER_LOST
from aftercommit.core.states import Status
from aftercommit.db.database import Fetch
from aftercommit.db.record import NOT_CANCELLING


@dataclass(frozen=True, slots=True, kw_only=True)
class LostTask:
    """A running task that its worker will not end.

    ``allowed`` is its max_retries as that worker resolved it; None when the worker's row is gone, so nobody knows.
    ``expired``: its deadline has passed.
    ``lost_before``: an earlier attempt was lost with its worker. ``suspect``: this attempt ran in a process of its own.
    """

    id: UUID
    claim_id: UUID
    worker: str
    type: str
    queue: str
    attempt: int
    charged: int
    allowed: int | None
    expired: bool
    lost_before: bool
    suspect: bool


_LARGEST_INTEGER: Final = 2**31 - 1


def _of_handler(option: str) -> str:
    """What the task's worker resolved for its type. A value that is no number, which only a handler's author can have
    given, must not fail the statement for all others."""
    value = f"w.handlers -> t.type -> '{option}'"
    return f"CASE json_typeof({value}) WHEN 'number' THEN least(({value})::text::numeric, {_LARGEST_INTEGER}) END"


def _find(condition: str, join: str) -> str:
    return f"""
        SELECT t.id, c.id AS claim_id, t.worker, t.type, t.queue, t.attempt, t.attempt - t.uncharged AS charged,
            coalesce(t.max_retries, ({_of_handler("max_retries")})::int, w.max_retries)
                AS allowed,
            coalesce(t.expires_at <= now(), false) AS expired,
            coalesce(t.error ->> 'type' IN {SUSPICIOUS}, false) AS suspect,
            EXISTS (
                SELECT FROM aftercommit.attempts a WHERE a.task_id = t.id AND a.error ->> 'type' = '{WORKER_LOST}'
            ) AS lost_before
        FROM aftercommit.claims c {join} JOIN aftercommit.workers w ON w.name = c.worker
        CROSS JOIN LATERAL unnest(c.task_ids) AS held (id)
        JOIN aftercommit.tasks t ON t.id = held.id AND t.worker = c.worker AND t.status = '{Status.RUNNING}'
        WHERE t.id <> ALL($1::uuid[]) AND {condition}
        ORDER BY t.id
        LIMIT $2
        FOR UPDATE OF t SKIP LOCKED
    """


_LOST: Final = _find("(w.lease_until IS NULL OR w.lease_until <= now())", "LEFT")

_OVERDUE: Final = _find(
    f"""
    w.lease_until > now() AND c.claimed_at < now() - $3::float8 * interval '1 second'
    AND {NOT_CANCELLING} AND (t.expires_at < now() - $3::float8 * interval '1 second'
        OR t.started_at < now() - interval '1 second' * ($3::float8
            + coalesce(t.timeout_seconds, ({_of_handler("timeout_seconds")})::float8, w.timeout_seconds)))
    """,
    "",
)

_DROP: Final = f"""
    DELETE FROM aftercommit.claims WHERE id = ANY (ARRAY (
        SELECT c.id FROM aftercommit.claims c
        WHERE NOT EXISTS (SELECT FROM aftercommit.workers w WHERE w.name = c.worker AND w.lease_until > now())
            AND NOT EXISTS (
                SELECT FROM unnest(c.task_ids) AS held (id)
                JOIN aftercommit.tasks t ON t.id = held.id AND t.worker = c.worker AND t.status = '{Status.RUNNING}'
            )
        FOR UPDATE OF c SKIP LOCKED
    ))
"""


async def lock_lost(fetch: Fetch, *, passing_over: Sequence[UUID], limit: int) -> list[LostTask]:
    """Lock up to ``limit`` running tasks of workers without a live lease, in id order; never waits for a row that is
    locked elsewhere.

    Reads ``claims`` (a row per batch under way), then the tasks by primary key.
    """
    rows = await fetch(_LOST, passing_over, limit)
    return [LostTask(**row) for row in rows]


async def lock_overdue(
    fetch: Fetch, *, grace_seconds: float, passing_over: Sequence[UUID], limit: int
) -> list[LostTask]:
    """The same for tasks that still run ``grace_seconds`` past their timeout or deadline under a living worker; not for
    those that are to be cancelled, whose code must have stopped first."""
    rows = await fetch(_OVERDUE, passing_over, limit, grace_seconds)
    return [LostTask(**row) for row in rows]


async def drop_empty_claims(fetch: Fetch) -> None:
    """Delete the claims of lost workers that have no running task left, but for locked rows."""
    await fetch(_DROP)
