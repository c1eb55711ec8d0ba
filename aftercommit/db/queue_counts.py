"""What stands in each work queue, as Postgres knows it, at a bounded cost."""

from collections.abc import Sequence
from typing import Any, Final

from aftercommit.core.states import SOURCES, Event, Status
from aftercommit.db.database import Fetch
from aftercommit.db.models import NOT_FAILED

MOST_COUNTED: Final = 1_000_000
"""Where a count of a work queue ends."""

OLDEST_TASKS: Final = 1_000
"""The oldest waiting task is looked for among so many of the lowest ids."""

_SENT_OUT: Final = "finished_at IS NULL AND dispatch > 0"
"""As the predicate of ``tasks_unfinished`` says it."""

_SCHEDULED: Final = "finished_at IS NULL AND dispatch = 0"
"""As the predicate of ``tasks_scheduled`` says it."""

_FAILED: Final = f"finished_at IS NOT NULL AND error ->> 'type' NOT IN {NOT_FAILED}"
"""As the predicate of ``tasks_failed`` says it."""


def _work_queues(predicate: str) -> str:
    """The work queues of the tasks that fulfil ``predicate``: one index probe each, whatever stands in them."""
    first = f"SELECT queue, priority FROM aftercommit.tasks WHERE {predicate}"
    return f"""
        (SELECT queue, priority FROM ({first} ORDER BY queue, priority LIMIT 1) first_one)
        UNION ALL
        SELECT following.queue, following.priority FROM {{name}} seen CROSS JOIN LATERAL (
            {first} AND (queue, priority) > (seen.queue, seen.priority) ORDER BY queue, priority LIMIT 1
        ) following
    """


def _count_each(work_queues: str, predicate: str) -> str:
    return f"""
        SELECT q.queue, q.priority,
            (SELECT count(*) FROM (
                SELECT FROM aftercommit.tasks t
                WHERE {predicate} AND t.queue = q.queue AND t.priority = q.priority LIMIT $2
            ) counted) AS total
        FROM {work_queues} q
    """


# Counting the running ones by their claims spares an index that contains the status.
_COUNT: Final = f"""
    WITH RECURSIVE busy AS ({_work_queues(_SENT_OUT).format(name="busy")}),
    planned AS ({_work_queues(_SCHEDULED).format(name="planned")}),
    failing AS ({_work_queues(_FAILED).format(name="failing")}),
    unfinished AS (
        SELECT q.queue, q.priority,
            (SELECT count(*) FROM (
                SELECT FROM aftercommit.tasks t
                WHERE {_SENT_OUT} AND t.queue = q.queue AND t.priority = q.priority LIMIT $2
            ) counted) AS total,
            (SELECT min(queued_at) FROM (
                SELECT queued_at FROM aftercommit.tasks t
                WHERE {_SENT_OUT} AND t.queue = q.queue AND t.priority = q.priority
                    AND status = ANY($1::text[])
                ORDER BY id LIMIT $3
            ) lowest) AS oldest
        FROM busy q
    ), running AS (
        SELECT t.queue, t.priority, count(DISTINCT t.id) AS total
        FROM aftercommit.claims c CROSS JOIN unnest(c.task_ids) AS claimed (id) CROSS JOIN LATERAL (
            SELECT id, queue, priority FROM aftercommit.tasks
            WHERE id = claimed.id AND status = '{Status.RUNNING}' AND worker = c.worker LIMIT 1
        ) t
        GROUP BY t.queue, t.priority
    ), scheduled AS (
        {_count_each("planned", _SCHEDULED)}
    ), failures AS (
        {_count_each("failing", _FAILED)}
    )
    SELECT queue || '.' || priority AS name,
        greatest(coalesce(u.total, 0) - coalesce(r.total, 0), 0) AS waiting, coalesce(r.total, 0) AS running,
        coalesce(s.total, 0) AS scheduled, coalesce(f.total, 0) AS failed,
        extract(epoch FROM now() - u.oldest)::float8 AS oldest_waiting_seconds
    FROM unfinished u FULL JOIN running r USING (queue, priority) FULL JOIN failures f USING (queue, priority)
    FULL JOIN scheduled s USING (queue, priority)
"""


async def count(fetch: Fetch) -> Sequence[Any]:
    """A row per work queue that has tasks; no count goes beyond MOST_COUNTED.

    Served by index-only scans of ``tasks_unfinished``, ``tasks_scheduled`` and ``tasks_failed``, and by the primary key
    for what runs. Locks nothing. A million waiting and a million failed tasks take a quarter of a second.
    """
    return await fetch(_COUNT, SOURCES[Event.CLAIM], MOST_COUNTED, OLDEST_TASKS)
