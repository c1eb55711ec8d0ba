"""Statements on ``parked_tasks``: tasks that wait for a worker that knows their type.

A row is what a message is elsewhere: it says that a task waits, and is stale when the task has another dispatch or does
not wait any more. A parked task is as it was, and no attempt of it was begun.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from aftercommit.core.failures import UNKNOWN_TYPE
from aftercommit.core.queues import Priority, WorkQueue
from aftercommit.core.states import SOURCES, Event, Status
from aftercommit.core.task_ref import TaskRef
from aftercommit.db import outbox
from aftercommit.db.database import Fetch

HOLD_SECONDS: Final = 5
"""How long a row that was taken is its worker's. One that dies meanwhile costs that time."""

FIRST_LOOK_SECONDS: Final = 5
"""Until maintenance looks after a parked task. Workers that know its type take it long before."""

LOOKED_KEPT: Final = 10
"""So many of the workers that looked at it last are named."""

# ``since`` stays: it is of the first look, whatever was done to the task meanwhile. The condition stands in a CASE for
# the reason that ``claims`` gives.
_PARK: Final = f"""
    WITH unknown AS (
        SELECT t.id, t.dispatch, t.type, t.queue, t.priority
        FROM unnest($1::uuid[], $2::int[]) AS ref (id, dispatch) JOIN aftercommit.tasks t ON t.id = ref.id
        WHERE CASE WHEN t.dispatch = ref.dispatch
            THEN t.status = ANY($3::text[]) AND (t.expires_at > now()) IS NOT FALSE AND t.type <> ALL($4::text[]) END
        ORDER BY t.id
    ), parked AS (
        INSERT INTO aftercommit.parked_tasks AS p (task_id, dispatch, type, queue, priority, looked, look_at)
        SELECT id, dispatch, type, queue, priority, ARRAY[$5], now() + interval '{FIRST_LOOK_SECONDS} seconds'
        FROM unknown
        ON CONFLICT (task_id) DO UPDATE
        SET dispatch = excluded.dispatch, looks = p.looks + 1,
            looked = CASE WHEN $5 = ANY(p.looked) THEN p.looked
                ELSE (p.looked || excluded.looked)[greatest(cardinality(p.looked) - {LOOKED_KEPT - 2}, 1):] END
    )
    SELECT id, dispatch FROM unknown
"""


async def park_unknown(fetch: Fetch, refs: Collection[TaskRef], *, known: Sequence[str], worker: str) -> set[TaskRef]:
    """Park those of these tasks that wait for these dispatches and whose types are not ``known``; which they are.

    Locks the rows of the parked in id order, by primary key, and not their tasks: a row that is parked while its task
    goes on is stale.
    """
    rows = await fetch(
        _PARK,
        [ref.task_id for ref in refs],
        [ref.dispatch for ref in refs],
        SOURCES[Event.CLAIM],
        known,
        worker,
    )
    return {TaskRef(row["id"], row["dispatch"]) for row in rows}


# A loose index scan over the types that wait in each work queue, of which there are few. Of each the oldest, so many
# that those of a work queue fill its room: who takes rows locks no more than it takes. LIMIT keeps the planner from
# reading all rows for each of the settled ones, as it would with a plan from when there were few rows.
_TAKE: Final = f"""
    WITH RECURSIVE done AS (
        DELETE FROM aftercommit.parked_tasks WHERE task_id = ANY (ARRAY (
            SELECT found.task_id FROM unnest($1::uuid[], $2::int[]) AS settled (id, dispatch) CROSS JOIN LATERAL (
                SELECT task_id FROM aftercommit.parked_tasks p
                WHERE p.task_id = settled.id AND p.dispatch = settled.dispatch LIMIT 1 FOR UPDATE SKIP LOCKED
            ) AS found
        ))
    ), handed_back AS (
        UPDATE aftercommit.parked_tasks p SET free_at = '-infinity'
        WHERE task_id = ANY($7::uuid[])
    ), kinds (queue, priority, type) AS (
        (SELECT queue, priority, type FROM aftercommit.parked_tasks ORDER BY queue, priority, type LIMIT 1)
        UNION ALL
        SELECT next.* FROM kinds CROSS JOIN LATERAL (
            SELECT p.queue, p.priority, p.type FROM aftercommit.parked_tasks p
            WHERE (p.queue, p.priority, p.type) > (kinds.queue, kinds.priority, kinds.type)
            ORDER BY p.queue, p.priority, p.type LIMIT 1
        ) AS next
    ), wanted AS MATERIALIZED (
        SELECT queue, priority, type, greatest(room / count(*) OVER (PARTITION BY queue, priority), 1) AS share
        FROM kinds JOIN unnest($3::text[], $4::text[], $5::int[]) AS served (queue, priority, room)
            USING (queue, priority)
        WHERE type = ANY($6::text[])
    ), free AS (
        SELECT p.task_id FROM wanted CROSS JOIN LATERAL (
            SELECT task_id FROM aftercommit.parked_tasks p
            WHERE p.queue = wanted.queue AND p.priority = wanted.priority AND p.type = wanted.type
                AND p.free_at <= now()
            ORDER BY p.since LIMIT wanted.share FOR UPDATE SKIP LOCKED
        ) AS p
    )
    UPDATE aftercommit.parked_tasks p SET free_at = now() + interval '{HOLD_SECONDS} seconds'
    WHERE p.task_id = ANY (ARRAY (SELECT task_id FROM free))
    RETURNING p.task_id, p.dispatch, p.queue, p.priority
"""


async def take(
    fetch: Fetch,
    *,
    known: Sequence[str],
    room: Mapping[WorkQueue, int],
    settled: Sequence[TaskRef] = (),
    handed_back: Sequence[TaskRef] = (),
) -> dict[WorkQueue, list[TaskRef]]:
    """Take rows of ``known`` types, the oldest of each: of each work queue as many as it has ``room`` for, or one of
    each type. They are the caller's for HOLD_SECONDS. Forgets the rows of ``settled``: those that were taken before,
    and are claimed or stale. Those of ``handed_back`` are free again.

    Passes over locked rows. Served by ``parked_tasks_by_type``, and by the primary key.
    """
    rows = await fetch(
        _TAKE,
        [ref.task_id for ref in settled],
        [ref.dispatch for ref in settled],
        [work_queue.queue for work_queue in room],
        [work_queue.priority for work_queue in room],
        list(room.values()),
        known,
        [ref.task_id for ref in handed_back],
    )
    found: dict[WorkQueue, list[TaskRef]] = {}
    for row in rows:
        work_queue = WorkQueue(row["queue"], Priority(row["priority"]))
        found.setdefault(work_queue, []).append(TaskRef(row["task_id"], row["dispatch"]))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedTask:
    """``looks``: how often a worker got it; ``looked`` names the last of them. ``known``: a living worker knows its
    type, though perhaps not its queue. ``waits``: its row is not stale."""

    task_id: UUID
    dispatch: int
    type: str
    looks: int
    looked: Sequence[str]
    age_seconds: float
    known: bool
    waits: bool


_LOCK_DUE: Final = """
    WITH known AS MATERIALIZED (
        SELECT DISTINCT json_object_keys(handlers) AS type FROM aftercommit.workers WHERE lease_until > now()
    )
    SELECT p.task_id, p.dispatch, p.type, p.looks, p.looked,
        extract(epoch FROM now() - p.since)::float8 AS age_seconds,
        p.type = ANY (ARRAY (SELECT type FROM known)) AS known,
        coalesce(t.dispatch = p.dispatch AND t.status = ANY($2::text[]), false) AS waits
    FROM aftercommit.parked_tasks p LEFT JOIN aftercommit.tasks t ON t.id = p.task_id
    WHERE p.look_at <= now()
    ORDER BY p.look_at LIMIT $1 FOR UPDATE OF p SKIP LOCKED
"""


async def lock_due(fetch: Fetch, *, limit: int) -> list[ParkedTask]:
    """Lock up to ``limit`` rows that are to be looked at, passing over locked ones. Served by
    ``parked_tasks_by_look``."""
    return [ParkedTask(**row) for row in await fetch(_LOCK_DUE, limit, SOURCES[Event.CLAIM])]


_FORGET: Final = "DELETE FROM aftercommit.parked_tasks WHERE task_id = ANY($1::uuid[])"


async def forget(fetch: Fetch, task_ids: Sequence[UUID]) -> None:
    """Delete rows that are locked. Served by the primary key."""
    await fetch(_FORGET, task_ids)


_LOOK_LATER: Final = """
    UPDATE aftercommit.parked_tasks p SET look_at = now() + later.seconds * interval '1 second'
    FROM unnest($1::uuid[], $2::float8[]) AS later (task_id, seconds) WHERE p.task_id = later.task_id
"""


async def look_later(fetch: Fetch, seconds: Mapping[UUID, float]) -> None:
    """Look at rows that are locked again after so many seconds. Served by the primary key."""
    await fetch(_LOOK_LATER, list(seconds), list(seconds.values()))


_WAITING: Final = """
    SELECT t.id, given.error, given.reason FROM unnest($1::uuid[], $2::int[], $3::json[], $4::text[])
        AS given (id, dispatch, error, reason)
    JOIN aftercommit.tasks t ON t.id = given.id
    WHERE CASE WHEN t.dispatch = given.dispatch THEN t.status = ANY($5::text[]) END
    ORDER BY t.id FOR NO KEY UPDATE OF t SKIP LOCKED
"""

# Another error tells more, also to the rescuer.
_SEND_AGAIN: Final = f"""
    WITH waiting AS (
        {_WAITING}
    ), task AS (
        UPDATE aftercommit.tasks t
        SET queued_at = now(),
            error = CASE WHEN coalesce(t.error ->> 'type', '{UNKNOWN_TYPE}') = '{UNKNOWN_TYPE}' THEN waiting.error
                ELSE t.error END
        FROM waiting WHERE t.id = waiting.id
        RETURNING t.id, t.queue, t.priority, t.dispatch
    ), sent AS (
        {outbox.insert("task")}
    )
    SELECT count(*) AS sent FROM task
"""


async def send_again(fetch: Fetch, errors: Mapping[TaskRef, str]) -> int:
    """Write outbox rows with the same dispatch for those of these tasks that still wait for it, and note the errors,
    JSON texts, in the tasks; how many. Passes over locked tasks. Served by the primary key."""
    (row,) = await fetch(_SEND_AGAIN, *_refs(errors), list(errors.values()), [None] * len(errors), SOURCES[Event.CLAIM])
    return int(row["sent"])


_GIVE_UP: Final = f"""
    WITH waiting AS (
        {_WAITING}
    ), task AS (
        UPDATE aftercommit.tasks t
        SET status = '{Status.FAILED}', error = waiting.error, finished_at = now(), due_at = NULL, enqueued = true
        FROM waiting WHERE t.id = waiting.id
        RETURNING t.id, t.queue, t.priority, t.dispatch, waiting.reason
    ), forgotten AS (
        DELETE FROM aftercommit.parked_tasks p USING task WHERE p.task_id = task.id
    ), dead_letter AS (
        {outbox.insert("task", dead_reason="reason")}
    )
    SELECT id FROM task
"""


async def give_up(fetch: Fetch, errors: Mapping[TaskRef, str], reasons: Sequence[str]) -> set[UUID]:
    """End those of these tasks as failed that still wait for these dispatches; which they are. Passes over locked ones.
    Served by the primary keys."""
    rows = await fetch(_GIVE_UP, *_refs(errors), list(errors.values()), reasons, SOURCES[Event.GIVE_UP])
    return {row["id"] for row in rows}


def _refs(errors: Mapping[TaskRef, str]) -> tuple[list[UUID], list[int]]:
    return [ref.task_id for ref in errors], [ref.dispatch for ref in errors]
