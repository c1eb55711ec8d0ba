"""Statements on ``outbox``: what is committed and not yet in RabbitMQ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from aftercommit.db.database import Fetch


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One committed task reference or dead letter. ``destination`` is the RabbitMQ queue that it goes to first."""

    id: int
    destination: str
    work_queue: str
    delay_seconds: int | None
    task_id: UUID | None
    dispatch: int | None
    dead_reason: str | None
    body: bytes | None


# By name, and without a dictionary for each row.
_read_columns: Final = itemgetter(*(column.name for column in fields(OutboxRow)))

# Each destination gives its share, so that a backlog of one holds none back. The condition is a range of pairs, since
# only ``outbox_unpublished`` has that order and is entered where the range begins. For an equality the planner may take
# the primary key instead, and read past everything that waits for the other destinations.
_LOCK: Final = """
    SELECT locked.* FROM unnest($1::text[], $2::bigint[]) AS known (destination, cursor) CROSS JOIN LATERAL (
        SELECT o.id, o.destination, o.work_queue, o.delay_seconds, o.task_id, o.dispatch, o.dead_reason, o.body
        FROM aftercommit.outbox o
        WHERE o.failed_at IS NULL
            AND (o.destination, o.id) > (known.destination, known.cursor) AND o.destination <= known.destination
        ORDER BY o.destination, o.id LIMIT $3 FOR UPDATE SKIP LOCKED
    ) AS locked
"""


async def lock_batch(fetch: Fetch, *, limit: int, cursors: Mapping[str, int]) -> list[OutboxRow]:
    """Lock up to ``limit`` rows of each of these destinations, oldest first, that come after its id in ``cursors``,
    passing over locked ones.

    Served by ``outbox_unpublished``.
    """
    return [OutboxRow(*_read_columns(row)) for row in await fetch(_LOCK, list(cursors), list(cursors.values()), limit)]


# A loose index scan: one entry of each destination, and whatever lies dead before it.
_FIRST_WAITING: Final = """
    WITH RECURSIVE firsts (destination, id) AS (
        (SELECT destination, id FROM aftercommit.outbox WHERE failed_at IS NULL ORDER BY destination, id LIMIT 1)
        UNION ALL
        SELECT next.destination, next.id FROM firsts CROSS JOIN LATERAL (
            SELECT o.destination, o.id FROM aftercommit.outbox o
            WHERE o.failed_at IS NULL AND o.destination > firsts.destination ORDER BY o.destination, o.id LIMIT 1
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


_MOVE_TO_END: Final = """
    WITH hidden AS (
        SELECT found.id FROM unnest($1::text[], $2::bigint[]) AS known (destination, cursor) CROSS JOIN LATERAL (
            SELECT o.id FROM aftercommit.outbox o
            WHERE o.failed_at IS NULL
                AND (o.destination, o.id) <= (known.destination, known.cursor) AND o.destination >= known.destination
            ORDER BY o.destination, o.id LIMIT $3 FOR UPDATE SKIP LOCKED
        ) AS found
    )
    UPDATE aftercommit.outbox o SET id = DEFAULT FROM hidden WHERE o.id = hidden.id RETURNING o.id
"""


async def move_to_end(fetch: Fetch, cursors: Mapping[str, int], *, limit: int) -> int:
    """Give new ids to up to ``limit`` rows of each of these destinations, from the first to its id in ``cursors``,
    passing over locked ones; how many.

    Served by ``outbox_unpublished`` and the primary key.
    """
    return len(await fetch(_MOVE_TO_END, list(cursors), list(cursors.values()), limit))


_DELETE: Final = "DELETE FROM aftercommit.outbox WHERE id = ANY($1::bigint[])"


async def delete(fetch: Fetch, ids: Sequence[int]) -> None:
    """Forget rows that RabbitMQ confirmed. Served by the primary key."""
    await fetch(_DELETE, ids)


_COUNT_FAILURES: Final = """
    UPDATE aftercommit.outbox o
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


_ADD_DEAD_MESSAGE: Final = "INSERT INTO aftercommit.outbox (work_queue, dead_reason, body) VALUES ($1, $2, $3)"


async def add_dead_message(fetch: Fetch, *, work_queue: str, reason: str, body: bytes) -> None:
    """Send a message that is not one of ours to the dead letters, as it came, with the reason."""
    await fetch(_ADD_DEAD_MESSAGE, work_queue, reason, body)


_COUNT: Final = """
    SELECT count(*) FILTER (WHERE failed_at IS NULL) AS unpublished,
        count(*) FILTER (WHERE failed_at IS NOT NULL) AS failed,
        extract(epoch FROM now() - min(created_at) FILTER (WHERE failed_at IS NULL))::float8 AS oldest_age_seconds
    FROM aftercommit.outbox
"""

_LIST_FAILED: Final = """
    SELECT id, destination, work_queue, task_id, attempts, last_error, created_at, failed_at
    FROM aftercommit.outbox WHERE failed_at IS NOT NULL AND id > $1 ORDER BY id LIMIT $2
"""


async def count(fetch: Fetch) -> Any:
    """How many rows wait and how long the oldest has; how many are parked. Reads the whole outbox, seldom large."""
    (row,) = await fetch(_COUNT)
    return row


async def list_failed(fetch: Fetch, *, after: int, limit: int) -> Sequence[Any]:
    """The parked rows, oldest first. Served by ``outbox_failed``."""
    return await fetch(_LIST_FAILED, after, limit)


_REQUEUE: Final = """
    UPDATE aftercommit.outbox SET id = DEFAULT, failed_at = NULL, attempts = 0
    WHERE failed_at IS NOT NULL AND ($1::bigint[] IS NULL OR id = ANY($1::bigint[]))
    RETURNING id
"""


async def requeue(fetch: Fetch, ids: Sequence[int] | None) -> int:
    """Give parked rows (all, or those with these ids) to the relay again, with new ids, after which it still reads; how
    many. Served by ``outbox_failed``."""
    return len(await fetch(_REQUEUE, ids))
