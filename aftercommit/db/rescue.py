"""Statements of the rescuer: what runs where nobody runs it."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from aftercommit.core.failures import SUSPICIOUS, WORKER_LOST
from aftercommit.core.states import Status
from aftercommit.db.database import Fetch


@dataclass(frozen=True, slots=True, kw_only=True)
class LostTask:
    """A running task that its worker will not end. ``allowed`` is its max_retries, as that worker understood it.

    ``lost_before``: an earlier attempt was lost with its worker. ``suspect``: this one ran in a process of its own.
    """

    id: UUID
    claim_id: UUID
    worker: str
    type: str
    queue: str
    attempt: int
    charged: int
    allowed: int
    lost_before: bool
    suspect: bool


def _find(condition: str, join: str) -> str:
    return f"""
        SELECT t.id, c.id AS claim_id, t.worker, t.type, t.queue, t.attempt, t.attempt - t.uncharged AS charged,
            coalesce(t.max_retries, (w.handlers -> t.type ->> 'max_retries')::int, $1) AS allowed,
            coalesce(t.error ->> 'type' IN {SUSPICIOUS}, false) AS suspect,
            EXISTS (
                SELECT FROM aftercommit.attempts a WHERE a.task_id = t.id AND a.error ->> 'type' = '{WORKER_LOST}'
            ) AS lost_before
        FROM aftercommit.claims c {join} JOIN aftercommit.workers w ON w.name = c.worker
        CROSS JOIN LATERAL unnest(c.task_ids) AS held (id)
        JOIN aftercommit.tasks t ON t.id = held.id AND t.worker = c.worker AND t.status = '{Status.RUNNING}'
        WHERE {condition}
        ORDER BY t.id
        LIMIT $2
    """


_LOST: Final = _find("w.lease_until IS NULL OR w.lease_until <= now()", "LEFT")

_OVERDUE: Final = _find(
    """
    w.lease_until > now() AND c.claimed_at < now() - $3::float8 * interval '1 second'
    AND t.started_at < now() - interval '1 second' * ($3::float8
        + coalesce(t.timeout_seconds, (w.handlers -> t.type ->> 'timeout_seconds')::float8, $4::float8))
    """,
    "",
)

_DROP: Final = f"""
    DELETE FROM aftercommit.claims c
    WHERE NOT EXISTS (SELECT FROM aftercommit.workers w WHERE w.name = c.worker AND w.lease_until > now())
        AND NOT EXISTS (
            SELECT FROM unnest(c.task_ids) AS held (id)
            JOIN aftercommit.tasks t ON t.id = held.id AND t.worker = c.worker AND t.status = '{Status.RUNNING}'
        )
"""


async def find_lost(fetch: Fetch, *, max_retries: int, limit: int) -> list[LostTask]:
    """Up to ``limit`` running tasks of workers without a live lease. Reads ``claims`` (a row per batch under way),
    then the tasks by primary key; locks nothing."""
    rows = await fetch(_LOST, max_retries, limit)
    return [LostTask(**row) for row in rows]


async def find_overdue(
    fetch: Fetch, *, max_retries: int, timeout_seconds: float, grace_seconds: float, limit: int
) -> list[LostTask]:
    """Up to ``limit`` tasks that still run ``grace_seconds`` past their timeout under a living worker."""
    rows = await fetch(_OVERDUE, max_retries, limit, grace_seconds, timeout_seconds)
    return [LostTask(**row) for row in rows]


async def drop_empty_claims(fetch: Fetch) -> None:
    """Forget the claims of lost workers that have no running task left."""
    await fetch(_DROP)
