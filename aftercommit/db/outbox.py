"""Statements on ``outbox_rows``: what is committed and not yet in RabbitMQ.

A row lists tasks that one statement sent to one work queue. It belongs to the relays, unless ``eager_until`` is set:
until then it belongs to the process that committed it. The relays read their rows in the order of ids, so a row that
comes to them later gets a new id, at the end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from operator import itemgetter
from typing import Final
from uuid import UUID

from aftercommit.core.task_ref import MAX_REFS, TaskRef
from aftercommit.db.database import Fetch


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """Committed references to tasks of one work queue; with a ``dead_reason``, dead letters. ``destination`` is the
    RabbitMQ queue that they go to first. A message that is not one of ours has a ``body`` and no tasks."""

    id: int
    destination: str
    work_queue: str
    delay_seconds: int | None
    task_ids: Sequence[UUID] | None
    dispatches: Sequence[int] | None
    dead_reason: str | None
    body: bytes | None

    def refs(self) -> list[TaskRef]:
        return list(map(TaskRef, self.task_ids or (), self.dispatches or ()))


# By name, and without a dictionary for each row.
_read_columns: Final = itemgetter(*(column.name for column in fields(OutboxRow)))


def insert(
    source: str,
    *,
    delay_seconds: str = "NULL::int",
    dead_reason: str = "NULL::text",
    eager_until: str = "NULL::timestamptz",
) -> str:
    """The INSERT of a row for each work queue, delay and reason, as a part of the statement that sends the tasks.

    ``source`` names rows with ``id``, ``queue``, ``priority`` and ``dispatch``; the others are expressions on these
    rows, and ``eager_until`` may refer to ``work_queue``.
    """
    return f"""
        INSERT INTO aftercommit.outbox_rows
            (work_queue, task_ids, dispatches, delay_seconds, dead_reason, eager_until)
        SELECT work_queue, array_agg(id), array_agg(dispatch), delay_seconds, dead_reason, {eager_until}
        FROM (
            SELECT id, dispatch, queue || '.' || priority AS work_queue, {delay_seconds} AS delay_seconds,
                {dead_reason} AS dead_reason, (row_number() OVER () - 1) / {MAX_REFS} AS part
            FROM {source}
        ) AS sent
        GROUP BY work_queue, delay_seconds, dead_reason, part
    """


_NUMBER_OF_TASKS: Final = "coalesce(cardinality(task_ids), 1)"

# Rows that the release before wrote have one task each, in columns of their own.
_COLUMNS: Final = """
    o.id, o.destination, o.work_queue, o.delay_seconds, o.dead_reason, o.body,
    CASE WHEN o.task_id IS NULL THEN o.task_ids ELSE ARRAY[o.task_id] END AS task_ids,
    CASE WHEN o.task_id IS NULL THEN o.dispatches ELSE ARRAY[o.dispatch] END AS dispatches
"""

_RELAYS_OWN: Final = "o.failed_at IS NULL AND o.eager_until IS NULL"
"""As the predicate of ``outbox_unpublished`` says it."""

# Each destination gives its share, so that a backlog of one holds none back. The condition is a range of pairs, since
# only ``outbox_unpublished`` has that order and is entered where the range begins. For an equality the planner may take
# the primary key instead, and read past everything that waits for the other destinations.
_LOCK: Final = f"""
    SELECT counted.* FROM unnest($1::text[], $2::bigint[]) AS known (destination, cursor) CROSS JOIN LATERAL (
        SELECT locked.*, sum({_NUMBER_OF_TASKS}) OVER (ORDER BY id) - {_NUMBER_OF_TASKS} AS tasks_before FROM (
            SELECT {_COLUMNS} FROM aftercommit.outbox_rows o
            WHERE {_RELAYS_OWN}
                AND (o.destination, o.id) > (known.destination, known.cursor) AND o.destination <= known.destination
            ORDER BY o.destination, o.id LIMIT $3 FOR UPDATE SKIP LOCKED
        ) AS locked
    ) AS counted
    WHERE counted.tasks_before < $4
"""


async def lock_batch(fetch: Fetch, *, rows: int, tasks: int, cursors: Mapping[str, int]) -> list[OutboxRow]:
    """Lock up to ``rows`` rows of each of these destinations, oldest first, that come after its id in ``cursors``,
    passing over locked ones; returns the first of them that make up ``tasks`` tasks.

    Served by ``outbox_unpublished``.
    """
    found = await fetch(_LOCK, list(cursors), list(cursors.values()), rows, tasks)
    return [OutboxRow(*_read_columns(row)) for row in found]


# A loose index scan: one entry of each destination, and whatever lies dead before it.
_FIRST_WAITING: Final = f"""
    WITH RECURSIVE firsts (destination, id) AS (
        (SELECT destination, id FROM aftercommit.outbox_rows o WHERE {_RELAYS_OWN} ORDER BY destination, id LIMIT 1)
        UNION ALL
        SELECT next.destination, next.id FROM firsts CROSS JOIN LATERAL (
            SELECT o.destination, o.id FROM aftercommit.outbox_rows o
            WHERE {_RELAYS_OWN} AND o.destination > firsts.destination ORDER BY o.destination, o.id LIMIT 1
        ) AS next
    )
    SELECT destination, id FROM firsts
"""


async def first_waiting(fetch: Fetch) -> dict[str, int]:
    """The id of the first row that waits, by destination. Served by ``outbox_unpublished``; takes long after a long
    transaction, since it reads past the entries that vacuum may not take away yet."""
    return {row["destination"]: row["id"] for row in await fetch(_FIRST_WAITING)}


_LAST_ID: Final = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS id FROM aftercommit.outbox_id_seq"


async def last_id(fetch: Fetch) -> int:
    """The last id that was given; 0 before the first."""
    (row,) = await fetch(_LAST_ID)
    return int(row["id"])


_MOVE_TO_END: Final = f"""
    WITH hidden AS (
        SELECT found.id FROM unnest($1::text[], $2::bigint[]) AS known (destination, cursor) CROSS JOIN LATERAL (
            SELECT o.id FROM aftercommit.outbox_rows o
            WHERE {_RELAYS_OWN}
                AND (o.destination, o.id) <= (known.destination, known.cursor) AND o.destination >= known.destination
            ORDER BY o.destination, o.id LIMIT $3 FOR UPDATE SKIP LOCKED
        ) AS found
    )
    UPDATE aftercommit.outbox_rows o SET id = DEFAULT FROM hidden WHERE o.id = hidden.id RETURNING o.id
"""


async def move_to_end(fetch: Fetch, cursors: Mapping[str, int], *, limit: int) -> int:
    """Give new ids to up to ``limit`` rows of each of these destinations, from the first to its id in ``cursors``,
    passing over locked ones; how many.

    Served by ``outbox_unpublished`` and the primary key.
    """
    return len(await fetch(_MOVE_TO_END, list(cursors), list(cursors.values()), limit))


_DELETE: Final = "DELETE FROM aftercommit.outbox_rows WHERE id = ANY($1::bigint[])"


async def delete(fetch: Fetch, ids: Sequence[int]) -> None:
    """Forget rows that RabbitMQ confirmed. Served by the primary key."""
    await fetch(_DELETE, ids)


_KEEP: Final = """
    UPDATE aftercommit.outbox_rows o SET task_ids = $2::uuid[], dispatches = $3::int[] WHERE id = $1 AND task_id IS NULL
"""


async def keep(fetch: Fetch, row_id: int, refs: Sequence[TaskRef]) -> None:
    """Leave only ``refs`` in a row: the others are confirmed. The caller holds its lock. Served by the primary key."""
    await fetch(_KEEP, row_id, [ref.task_id for ref in refs], [ref.dispatch for ref in refs])


_COUNT_FAILURES: Final = """
    UPDATE aftercommit.outbox_rows o
    SET attempts = o.attempts + 1, last_error = failure.error,
        failed_at = CASE WHEN o.attempts + 1 >= $3 THEN now() END
    FROM unnest($1::bigint[], $2::text[]) AS failure (id, error)
    WHERE o.id = failure.id
    RETURNING o.id, o.failed_at IS NOT NULL AS parked
"""


async def count_failures(fetch: Fetch, errors: Mapping[int, str], *, max_attempts: int) -> set[int]:
    """Count an attempt for each row (id to error); returns those that are parked as FAILED by it: all that have had
    ``max_attempts`` now. The caller holds their locks. Served by the primary key."""
    rows = await fetch(_COUNT_FAILURES, list(errors), list(errors.values()), max_attempts)
    return {row["id"] for row in rows if row["parked"]}


_ADD_DEAD_MESSAGE: Final = "INSERT INTO aftercommit.outbox_rows (work_queue, dead_reason, body) VALUES ($1, $2, $3)"


async def add_dead_message(fetch: Fetch, *, work_queue: str, reason: str, body: bytes) -> None:
    """Send a message that is not one of ours to the dead letters, as it came, with the reason."""
    await fetch(_ADD_DEAD_MESSAGE, work_queue, reason, body)
