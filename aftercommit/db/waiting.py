"""Why a task waits: what Postgres knows of it, in one look."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from aftercommit.core.states import Status
from aftercommit.db.database import Fetch

MOST_BEFORE: Final = 10_000
"""Where the count of tasks before it ends."""

MOST_ROWS: Final = 1_000
"""So many rows of its work queue are looked through in the outbox."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Of a task that waits. ``before``: unfinished tasks of its work queue with smaller ids, counted up to MOST_BEFORE.
    ``serving`` and ``knowing``: living workers that serve its work queue, and of these the ones with a handler of its
    type. ``used_by``: how many tasks of its queue each worker runs, where that has ``max_running``."""

    status: Status
    queue: str
    priority: str
    type: str
    due_at: datetime | None
    enqueued: bool
    now: datetime
    paused_at: datetime | None
    paused_by: str | None
    deleting_at: datetime | None
    max_running: int | None
    used_by: dict[str, int]
    rate_per_second: float | None
    seconds_until_token: float | None
    outbox_since: datetime | None
    outbox_failed: str | None
    serving: int
    knowing: int
    free_slots: int | None
    before: int


# Workers of the release before do not tell what they serve: they count as serving everything.
_FACTS: Final = f"""
    SELECT t.status, t.queue, t.priority, t.type, t.due_at, t.enqueued, now() AS now,
        q.paused_at, q.paused_by, q.deleting_at, q.max_running, q.rate_per_second,
        ARRAY (SELECT g.worker FROM aftercommit.queue_grants g WHERE g.queue = t.queue AND g.in_use > 0
            ORDER BY g.worker) AS users,
        ARRAY (SELECT g.in_use FROM aftercommit.queue_grants g WHERE g.queue = t.queue AND g.in_use > 0
            ORDER BY g.worker) AS uses,
        (1 - b.tokens) / q.rate_per_second - extract(epoch FROM clock_timestamp() - b.refilled_at)::float8
            AS seconds_until_token,
        sending.created_at AS outbox_since, sending.failure AS outbox_failed,
        workers.serving, workers.knowing, workers.free_slots,
        (SELECT count(*) FROM (
            SELECT FROM aftercommit.tasks o
            WHERE o.finished_at IS NULL AND o.dispatch > 0 AND o.queue = t.queue AND o.priority = t.priority
                AND o.id < t.id LIMIT {MOST_BEFORE}
        ) earlier) AS before
    FROM aftercommit.tasks t
    LEFT JOIN aftercommit.queues q ON q.name = t.queue
    LEFT JOIN aftercommit.rate_buckets b ON b.queue = t.queue AND q.rate_per_second IS NOT NULL
    LEFT JOIN LATERAL (
        SELECT found.created_at, found.failure FROM (
            (SELECT o.created_at, o.task_ids, NULL AS failure FROM aftercommit.outbox_rows o
                WHERE o.failed_at IS NULL AND o.eager_until IS NULL
                    AND (o.destination, o.id) >= (t.queue || '.' || t.priority, 0)
                    AND (o.destination, o.id) < (t.queue || '.' || t.priority, {2**63 - 1})
                ORDER BY o.destination, o.id LIMIT {MOST_ROWS})
            UNION ALL
            (SELECT o.created_at, o.task_ids, NULL FROM aftercommit.outbox_rows o
                WHERE o.eager_until IS NOT NULL ORDER BY o.eager_until LIMIT {MOST_ROWS})
            UNION ALL
            (SELECT o.created_at, o.task_ids, coalesce(o.last_error, 'no queue takes it') FROM aftercommit.outbox_rows o
                WHERE o.failed_at IS NOT NULL ORDER BY o.id LIMIT {MOST_ROWS})
        ) found
        WHERE t.id = ANY (found.task_ids) LIMIT 1
    ) sending ON true
    CROSS JOIN LATERAL (
        SELECT count(*) AS serving, count(*) FILTER (WHERE w.handlers::jsonb ? t.type) AS knowing,
            sum(greatest(w.slots - w.slots_taken, 0)) AS free_slots
        FROM aftercommit.workers w
        WHERE w.lease_until > now() AND w.drain_requested_at IS NULL AND (
            w.work_queues IS NULL
            OR w.work_queues && ARRAY['*', '*.' || t.priority, t.queue, t.queue || '.' || t.priority]
        )
    ) workers
    WHERE t.id = $1 AND t.finished_at IS NULL AND t.status <> '{Status.RUNNING}'
"""


async def look(fetch: Fetch, task_id: UUID) -> Facts | None:
    """None: it does not wait. By primary key; then ``tasks_unfinished`` up to MOST_BEFORE entries,
    ``outbox_unpublished``, ``outbox_eager`` and ``outbox_failed`` up to MOST_ROWS each, and ``workers``."""
    rows = await fetch(_FACTS, task_id)
    return _facts(rows[0]) if rows else None


def _facts(row: Any) -> Facts:
    return Facts(
        status=Status(row["status"]),
        queue=row["queue"],
        priority=row["priority"],
        type=row["type"],
        due_at=row["due_at"],
        enqueued=row["enqueued"],
        now=row["now"],
        paused_at=row["paused_at"],
        paused_by=row["paused_by"],
        deleting_at=row["deleting_at"],
        max_running=row["max_running"],
        used_by=dict(zip(row["users"], row["uses"], strict=True)),
        rate_per_second=row["rate_per_second"],
        seconds_until_token=row["seconds_until_token"],
        outbox_since=row["outbox_since"],
        outbox_failed=row["outbox_failed"],
        serving=row["serving"],
        knowing=row["knowing"],
        free_slots=row["free_slots"],
        before=row["before"],
    )
