"""Statements for a broker that lost what it held: since when, and which tasks must be sent again.

``broker_marker`` has one row. Messages of tasks that were sent out before its ``lost_before`` are lost; ``resent_at``
is null until these tasks are sent again, by however many processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from aftercommit.core.queues import QueueType, WorkQueue
from aftercommit.core.states import SOURCES, Event
from aftercommit.db.database import Fetch

_NOTE_AWAY: Final = """
    WITH noted AS (UPDATE aftercommit.broker_marker SET away_since = now()) SELECT now() AS since
"""


async def note_away(fetch: Fetch) -> datetime:
    """Note that the broker answered this process until now, and does not any more; the moment of that."""
    (row,) = await fetch(_NOTE_AWAY)
    since: datetime = row["since"]
    return since


_NOTE_LOSS: Final = """
    INSERT INTO aftercommit.broker_marker AS known (queue_type, lost_before, resent_at) VALUES ($1, now(), now())
    ON CONFLICT (id) DO UPDATE
        SET queue_type = excluded.queue_type,
            lost_before = CASE WHEN $2::timestamptz IS NULL THEN now() ELSE greatest($2, known.away_since) END,
            resent_at = CASE WHEN known.queue_type <> excluded.queue_type THEN now() END
    RETURNING resent_at IS NULL AS lost
"""


async def note_loss(fetch: Fetch, queue_type: QueueType, *, away_since: datetime | None) -> bool:
    """Note that the marker was not there and was planted just now; whether that means a loss. It does not the first
    time, nor after the queues' type was changed: an operator drains them for that.

    What was sent out since the broker went away was published after its return. ``away_since`` is when this process
    noticed, if it did; the broker may have answered another one for longer.
    """
    (row,) = await fetch(_NOTE_LOSS, queue_type, away_since)
    return bool(row["lost"])


_LOST_BEFORE: Final = "SELECT lost_before FROM aftercommit.broker_marker WHERE resent_at IS NULL"


async def lost_before(fetch: Fetch) -> datetime | None:
    """Waiting tasks that were sent out before this moment, and have no outbox row, must be sent again; None when there
    is nothing to do."""
    rows = await fetch(_LOST_BEFORE)
    moment: datetime | None = rows[0]["lost_before"] if rows else None
    return moment


_FIND: Final = """
    WITH looked AS MATERIALIZED (
        SELECT id, status, enqueued, queued_at, due_at FROM aftercommit.tasks
        WHERE finished_at IS NULL AND dispatch > 0 AND queue = $1 AND priority = $2 AND id > $3::uuid
        ORDER BY id LIMIT $4
    ), waiting AS MATERIALIZED (
        SELECT id, status = ANY($6::text[]) AND due_at >= $7::timestamptz AS delayed FROM looked
        WHERE status = ANY($5::text[]) AND enqueued AND queued_at < $7::timestamptz
    )
    SELECT (SELECT count(*) FROM looked) AS looked, (SELECT id FROM looked ORDER BY id DESC LIMIT 1) AS last_id,
        ARRAY (SELECT id FROM waiting WHERE delayed IS NOT TRUE) AS waiting,
        ARRAY (SELECT id FROM waiting WHERE delayed) AS delayed
"""

# A statement of its own: in a join the planner, which takes the looked-at for few, would read the outbox for each.
_UNPUBLISHED: Final = """
    SELECT listed.task_id
    FROM aftercommit.outbox_rows CROSS JOIN LATERAL unnest(coalesce(task_ids, ARRAY[task_id])) AS listed (task_id)
    JOIN unnest($1::uuid[]) AS wanted (task_id) ON wanted.task_id = listed.task_id
    WHERE eager_until IS NULL
"""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the unfinished tasks of a work queue, in id order: how many were ``looked`` at, up to ``last_id`` (None
    where there was none). The messages of ``waiting`` and ``delayed`` were lost: those of delayed ones in a retry queue
    whose delay was not over."""

    looked: int
    last_id: UUID | None
    waiting: Sequence[UUID]
    delayed: Sequence[UUID]


async def find_lost(fetch: Fetch, work_queue: WorkQueue, *, after: UUID, before: datetime, limit: int) -> Stretch:
    """Look at up to ``limit`` unfinished tasks with ids after ``after`` for those that were sent out before ``before``,
    still wait, and have no row in the outbox.

    Served by ``tasks_unfinished``; reads the whole outbox once where it found any; locks nothing.
    """
    (row,) = await fetch(
        _FIND,
        work_queue.queue,
        work_queue.priority,
        after,
        limit,
        SOURCES[Event.CLAIM],
        SOURCES[Event.FALL_DUE],
        before,
    )
    waiting, delayed = row["waiting"], row["delayed"]
    if waiting or delayed:
        unpublished = {found["task_id"] for found in await fetch(_UNPUBLISHED, [*waiting, *delayed])}
        waiting, delayed = ([task_id for task_id in ids if task_id not in unpublished] for ids in (waiting, delayed))
    return Stretch(row["looked"], row["last_id"], waiting, delayed)


# Not due before now: the scheduler does not look far back.
_POSTPONE: Final = """
    WITH delayed AS (
        SELECT id FROM aftercommit.tasks
        WHERE id = ANY($1::uuid[]) AND status = ANY($2::text[]) AND enqueued AND queued_at < $3::timestamptz
            AND due_at IS NOT NULL
        ORDER BY id FOR UPDATE SKIP LOCKED
    )
    UPDATE aftercommit.tasks t SET enqueued = false, due_at = greatest(due_at, now())
    FROM delayed WHERE t.id = delayed.id RETURNING t.id
"""


async def postpone(fetch: Fetch, ids: Sequence[UUID], *, before: datetime) -> int:
    """Leave those of these tasks that still wait for a delay since before ``before`` to the scheduler, which sends them
    when they are due, with the same dispatch; how many. Passes over locked rows. Served by the primary key."""
    return len(await fetch(_POSTPONE, ids, SOURCES[Event.FALL_DUE], before))


_CLOSE: Final = "UPDATE aftercommit.broker_marker SET resent_at = now() WHERE lost_before = $1 AND resent_at IS NULL"


async def close(fetch: Fetch, before: datetime) -> None:
    """What was lost ``before`` is sent again. Changes nothing if more was lost meanwhile."""
    await fetch(_CLOSE, before)
