"""Statements of the reconciler: tasks that wait although their message must be gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from aftercommit.core.queues import WorkQueue
from aftercommit.core.states import SOURCES, Event
from aftercommit.db import outbox
from aftercommit.db.database import Fetch

_WATERMARK: Final = """
    SELECT now() AS now,
        (SELECT passed_at FROM aftercommit.queue_statistics WHERE work_queue = $1) AS passed_at,
        (SELECT max(hand_back_seconds) FROM aftercommit.workers WHERE lease_until > now()) AS hand_back_seconds
"""


async def watermark(fetch: Fetch, work_queue: WorkQueue) -> Any:
    """The database's clock (``now``); up to when the work queue was passed through (``passed_at``); and how long a
    message may wait in a living worker (``hand_back_seconds``). The last two are None where nobody knows."""
    (row,) = await fetch(_WATERMARK, str(work_queue))
    return row


# A loose index scan over the destinations; of each that a task of this work queue may go to, the oldest row for it.
_UNPUBLISHED_SINCE: Final = """
    WITH RECURSIVE firsts (destination, work_queue, delay_seconds, dead_reason) AS (
        (SELECT destination, work_queue, delay_seconds, dead_reason FROM aftercommit.outbox_rows o
            WHERE failed_at IS NULL AND eager_until IS NULL ORDER BY destination, id LIMIT 1)
        UNION ALL
        SELECT next.* FROM firsts CROSS JOIN LATERAL (
            SELECT o.destination, o.work_queue, o.delay_seconds, o.dead_reason FROM aftercommit.outbox_rows o
            WHERE o.failed_at IS NULL AND o.eager_until IS NULL AND o.destination > firsts.destination
            ORDER BY o.destination, o.id LIMIT 1
        ) AS next
    )
    SELECT min(oldest.created_at) AS since FROM firsts CROSS JOIN LATERAL (
        SELECT created_at FROM aftercommit.outbox_rows o
        WHERE o.failed_at IS NULL AND o.eager_until IS NULL
            AND o.destination = firsts.destination AND o.work_queue = $1
        ORDER BY o.id LIMIT 1
    ) AS oldest
    WHERE firsts.dead_reason IS NULL AND (
        firsts.work_queue = $1
        OR firsts.delay_seconds IS NOT NULL AND split_part(firsts.work_queue, '.', 2) = split_part($1, '.', 2)
    )
"""


async def unpublished_since(fetch: Fetch, work_queue: WorkQueue) -> datetime | None:
    """Since when a row for a task of this work queue waits in the outbox, whether for the work queue itself or for a
    retry queue; None if none waits. It reads past all entries that a long transaction elsewhere keeps.

    Served by ``outbox_unpublished``.
    """
    (row,) = await fetch(_UNPUBLISHED_SINCE, str(work_queue))
    since: datetime | None = row["since"]
    return since


_FIND_PASSED_OVER: Final = """
    WITH looked AS (
        SELECT id, status, enqueued, greatest(queued_at, due_at) AS sent_at FROM aftercommit.tasks
        WHERE finished_at IS NULL AND dispatch > 0 AND queue = $1 AND priority = $2 AND id > $3::uuid AND id < $4::uuid
        ORDER BY id LIMIT $5
    )
    SELECT (SELECT count(*) FROM looked) AS looked, (SELECT id FROM looked ORDER BY id DESC LIMIT 1) AS last_id,
        ARRAY (
            SELECT id FROM looked WHERE status = ANY($6::text[]) AND enqueued AND sent_at < $7::timestamptz
        ) AS found
"""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the unfinished tasks of a work queue, in id order: how many were ``looked`` at, up to ``last_id`` (None
    where there was none); ``found`` wait since before the watermark."""

    looked: int
    last_id: UUID | None
    found: Sequence[UUID]


async def find_passed_over(
    fetch: Fetch, work_queue: WorkQueue, *, after: UUID, until: UUID, before: datetime, limit: int
) -> Stretch:
    """Look at up to ``limit`` unfinished tasks with ids between ``after`` and ``until``, both excluded, for those that
    were sent out, or fell due, before ``before`` and still wait. Served by ``tasks_unfinished``; locks nothing."""
    (row,) = await fetch(
        _FIND_PASSED_OVER,
        work_queue.queue,
        work_queue.priority,
        after,
        until,
        limit,
        SOURCES[Event.CLAIM],
        before,
    )
    return Stretch(row["looked"], row["last_id"], row["found"])


_RESEND: Final = f"""
    WITH lost AS (
        SELECT id FROM aftercommit.tasks t
        WHERE id = ANY($1::uuid[]) AND status = ANY($2::text[]) AND enqueued
            AND greatest(queued_at, due_at) < $3::timestamptz
            AND id NOT IN (
                SELECT parked.id FROM aftercommit.outbox_rows
                CROSS JOIN LATERAL unnest(coalesce(task_ids, ARRAY[task_id])) AS parked (id)
                WHERE failed_at IS NOT NULL AND parked.id IS NOT NULL
            )
            AND NOT EXISTS (
                SELECT FROM aftercommit.parked_tasks p WHERE p.task_id = t.id AND p.dispatch = t.dispatch
            )
        ORDER BY id FOR UPDATE SKIP LOCKED
    ), task AS (
        UPDATE aftercommit.tasks t SET queued_at = now() FROM lost WHERE t.id = lost.id
        RETURNING t.id, t.queue, t.priority, t.dispatch
    ), sent AS (
        {outbox.insert("task")}
    )
    SELECT count(*) AS resent FROM task
"""


async def resend(fetch: Fetch, ids: Sequence[UUID], *, before: datetime) -> int:
    """Write outbox rows with the same dispatch for those of these tasks that still wait since before ``before``; how
    many. Tasks whose row is parked in the outbox are left alone, and so are parked tasks, and locked ones.

    Their place is then the end of the queue, so that they are not sent again at once. Served by the primary key.
    """
    (row,) = await fetch(_RESEND, ids, SOURCES[Event.CLAIM], before)
    return int(row["resent"])
