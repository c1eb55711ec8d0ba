"""Statements on ``workers``: who is alive, and what other roles must know of a worker.

A lease that lapsed is never renewed: its worker takes a new name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aftercommit.db.database import Fetch
from aftercommit.db.queue_statistics import QueueStatistics

_OPEN: Final = """
    INSERT INTO aftercommit.workers (
        name, handlers, max_retries, timeout_seconds, lease_seconds, hand_back_seconds, lease_until,
        host, pid, version, work_queues, slots, slots_taken, prefetch, renewed_at
    )
    VALUES (
        $1, $2::json, $3, $4, $5::float8, $6, now() + $5::float8 * interval '1 second',
        $7, $8, $9, $10::text[], $11, 0, $12, now()
    )
    ON CONFLICT (name) DO UPDATE SET lease_until = excluded.lease_until
"""

# A row of statistics that somebody holds locked must not cost the lease: what is skipped comes with the next renewal.
_RENEW: Final = """
    WITH learnt AS (
        SELECT * FROM unnest($3::text[], $4::timestamptz[], $5::float8[]) AS u (work_queue, passed_at, task_seconds)
    ), free AS (
        SELECT u.* FROM learnt u JOIN aftercommit.queue_statistics s ON s.work_queue = u.work_queue
        ORDER BY s.work_queue FOR NO KEY UPDATE OF s SKIP LOCKED
    ), advanced AS (
        UPDATE aftercommit.queue_statistics s
        SET passed_at = greatest(s.passed_at, free.passed_at),
            task_seconds = coalesce(free.task_seconds, s.task_seconds)
        FROM free WHERE s.work_queue = free.work_queue
    ), new AS (
        INSERT INTO aftercommit.queue_statistics (work_queue, passed_at, task_seconds)
        SELECT * FROM learnt u
        WHERE NOT EXISTS (SELECT FROM aftercommit.queue_statistics s WHERE s.work_queue = u.work_queue)
        ORDER BY work_queue
        ON CONFLICT DO NOTHING
    )
    UPDATE aftercommit.workers
    SET lease_until = now() + $2::float8 * interval '1 second', renewed_at = now(), slots_taken = $6
    WHERE name = $1 AND lease_until > now()
    RETURNING drain_requested_at IS NOT NULL AS is_to_drain
"""

_CLOSE: Final = """
    UPDATE aftercommit.workers SET lease_until = now(), closed_at = now() WHERE name = $1 AND lease_until > now()
"""

_LONGEST: Final = "SELECT max(lease_seconds) AS seconds FROM aftercommit.workers"

_PROBE: Final = "INSERT INTO aftercommit.workers (name, handlers, lease_until) VALUES ($1, '{}', now())"
_FORGET: Final = "DELETE FROM aftercommit.workers WHERE name = $1"

_PRUNE: Final = """
    DELETE FROM aftercommit.workers WHERE name = ANY (ARRAY (
        SELECT w.name FROM aftercommit.workers w
        WHERE w.lease_until < now() - interval '1 hour'
            AND NOT EXISTS (SELECT FROM aftercommit.claims c WHERE c.worker = w.name)
        FOR UPDATE SKIP LOCKED
    ))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What others must know of a worker. ``handlers`` is JSON: the max_retries and timeout_seconds of each type, as the
    worker resolved them; those of its own hold for types without a handler there. ``work_queues`` are patterns."""

    handlers: str
    max_retries: int
    timeout_seconds: float
    lease_seconds: float
    hand_back_seconds: float
    host: str
    pid: int
    version: str
    work_queues: Sequence[str]
    slots: int
    prefetch: int


@dataclass(frozen=True, slots=True)
class Renewed:
    """The lease goes on. ``is_to_drain``: an operator wants the worker to finish and end."""

    is_to_drain: bool


async def open_lease(fetch: Fetch, name: str, worker: Worker) -> None:
    """A lease for a new name."""
    await fetch(
        _OPEN,
        name,
        worker.handlers,
        worker.max_retries,
        worker.timeout_seconds,
        worker.lease_seconds,
        worker.hand_back_seconds,
        worker.host,
        worker.pid,
        worker.version,
        worker.work_queues,
        worker.slots,
        worker.prefetch,
    )


async def renew(
    fetch: Fetch, *, name: str, seconds: float, statistics: Sequence[QueueStatistics], slots_taken: int
) -> Renewed | None:
    """Renew a lease; None: it had lapsed. ``statistics`` advance ``queue_statistics``, except for locked rows."""
    rows = await fetch(
        _RENEW,
        name,
        seconds,
        [each.work_queue for each in statistics],
        [each.passed_at for each in statistics],
        [each.task_seconds for each in statistics],
        slots_taken,
    )
    return Renewed(rows[0]["is_to_drain"]) if rows else None


async def close(fetch: Fetch, name: str) -> None:
    """End a lease. Only for a worker that runs nothing any more.

    Its claims stay, and so does its row: a claim whose answer was lost may hold tasks that the worker knows nothing
    of, and the rescuer needs the row to judge them. ``prune`` deletes the row later.
    """
    await fetch(_CLOSE, name)


async def longest_lease_seconds(fetch: Fetch) -> float:
    """The longest lease among all workers that are known, alive or lost; 0 if there are none."""
    (row,) = await fetch(_LONGEST)
    return float(row["seconds"] or 0)


async def probe(fetch: Fetch, name: str) -> None:
    """Write a row as ``open_lease`` does, and delete it. Raises what keeps workers from opening a lease."""
    await fetch(_PROBE, name)
    await fetch(_FORGET, name)


async def prune(fetch: Fetch) -> None:
    """Delete the rows of leases that ended over an hour ago and left no claims. Reads ``workers``, which is small;
    passes over locked rows.

    An hour is longer than the commit of a last claim can take.
    """
    await fetch(_PRUNE)
