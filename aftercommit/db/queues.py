"""Statements on ``queues``: what there is, as every process follows it, and what operators change."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from aftercommit.core.queue_options import DeleteMode, Ordering, QueueOptions
from aftercommit.db.database import Fetch


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue as it is stored. ``position``: its place in QUEUES, None where it does not stand there."""

    options: QueueOptions
    position: int | None
    paused_at: datetime | None
    paused_by: str | None
    deleting_at: datetime | None
    delete_mode: str | None
    move_to: str | None
    deleted_at: datetime | None
    created_at: datetime
    updated_at: datetime


# xmin changes with each version of a row, in whatever order transactions commit.
_VERSION: Final = """
    SELECT md5(string_agg(name || ':' || xmin::text, ',' ORDER BY name)) AS version FROM aftercommit.queues
"""
_READ: Final = "SELECT * FROM aftercommit.queues ORDER BY position, name"
_GET: Final = "SELECT * FROM aftercommit.queues WHERE name = $1 AND deleted_at IS NULL"


async def version(fetch: Fetch) -> str | None:
    """A text that is another one after each change of any queue; None where there is none. Reads the table."""
    (row,) = await fetch(_VERSION)
    found: str | None = row["version"]
    return found


async def read(fetch: Fetch) -> list[QueueRow]:
    """Every queue, those that were deleted as well: the default first, then QUEUES in their order, then the others by
    name. Reads the table, a row per queue."""
    return [_row(row) for row in await fetch(_READ)]


async def get(fetch: Fetch, name: str) -> QueueRow | None:
    """One queue, unless it is deleted. By primary key."""
    rows = await fetch(_GET, name)
    return _row(rows[0]) if rows else None


_PUT: Final = """
    INSERT INTO aftercommit.queues AS q (
        name, description, priorities, types, max_waiting, max_payload_bytes, max_retries, retry, timeout_seconds,
        ordering, weights, max_running, rate_per_second, burst
    )
    VALUES ($1, $2, $3::text[], $4::text[], $5, $6, $7, $8::json, $9, $10, $11::int[], $12, $13, $14)
    ON CONFLICT (name) DO UPDATE SET
        description = excluded.description, priorities = excluded.priorities, types = excluded.types,
        max_waiting = excluded.max_waiting, max_payload_bytes = excluded.max_payload_bytes,
        max_retries = excluded.max_retries, retry = excluded.retry, timeout_seconds = excluded.timeout_seconds,
        ordering = excluded.ordering, weights = excluded.weights, max_running = excluded.max_running,
        rate_per_second = excluded.rate_per_second, burst = excluded.burst, updated_at = now(),
        created_at = CASE WHEN q.deleted_at IS NULL THEN q.created_at ELSE now() END,
        deleted_at = NULL, delete_mode = NULL, move_to = NULL, left_in_broker = false
        WHERE q.deleting_at IS NULL
    RETURNING q.*, created_at = now() AS is_new
"""


async def put(fetch: Fetch, options: QueueOptions) -> tuple[QueueRow, bool] | None:
    """Make a queue, or give it these options; it, and whether it is new. A pause stays. None: it is being deleted. By
    primary key."""
    rows = await fetch(
        _PUT,
        options.name,
        options.description,
        options.priorities,
        options.types,
        options.max_waiting,
        options.max_payload_bytes,
        options.max_retries,
        options.retry,
        options.timeout_seconds,
        options.ordering,
        options.weights,
        options.max_running,
        options.rate_per_second,
        options.burst,
    )
    return (_row(rows[0]), rows[0]["is_new"]) if rows else None


_MAKE_MISSING: Final = """
    INSERT INTO aftercommit.queues (name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING RETURNING name
"""


async def make_missing(fetch: Fetch, names: Sequence[str]) -> list[str]:
    """Make those of ``names`` that never were; which. One that was deleted stays so. By primary key."""
    return [row["name"] for row in await fetch(_MAKE_MISSING, names)] if names else []


_PAUSE: Final = """
    UPDATE aftercommit.queues SET paused_at = coalesce(paused_at, now()), paused_by = $2, updated_at = now()
    WHERE name = $1 AND deleted_at IS NULL RETURNING *
"""
_RESUME: Final = """
    UPDATE aftercommit.queues SET paused_at = NULL, paused_by = NULL, updated_at = now()
    WHERE name = $1 AND deleted_at IS NULL RETURNING *
"""


async def pause(fetch: Fetch, name: str, *, by: str | None) -> QueueRow | None:
    """Let nothing start from a queue; None: there is none. A pause that is there goes on. By primary key."""
    rows = await fetch(_PAUSE, name, by)
    return _row(rows[0]) if rows else None


async def resume(fetch: Fetch, name: str) -> QueueRow | None:
    """End a pause; None: there is no such queue. By primary key."""
    rows = await fetch(_RESUME, name)
    return _row(rows[0]) if rows else None


_BEGIN_DELETE: Final = """
    UPDATE aftercommit.queues
    SET deleting_at = coalesce(deleting_at, now()), delete_mode = $2, move_to = $3, updated_at = now()
    WHERE name = $1 AND deleted_at IS NULL RETURNING *
"""
_STOP_DELETE: Final = """
    UPDATE aftercommit.queues SET deleting_at = NULL, delete_mode = NULL, move_to = NULL, updated_at = now()
    WHERE name = $1 AND deleting_at IS NOT NULL AND delete_mode = $2
"""
_END_DELETE: Final = """
    UPDATE aftercommit.queues
    SET deleted_at = now(), deleting_at = NULL, paused_at = NULL, paused_by = NULL, left_in_broker = true,
        updated_at = now()
    WHERE name = $1 AND deleting_at < now() - $2::float8 * interval '1 second'
    RETURNING name
"""
_REVIVE: Final = """
    UPDATE aftercommit.queues SET deleted_at = NULL, delete_mode = NULL, left_in_broker = false, updated_at = now()
    WHERE name = $1 AND deleted_at IS NOT NULL
"""
_DELETING: Final = "SELECT * FROM aftercommit.queues WHERE deleting_at IS NOT NULL ORDER BY name"
_LEFT: Final = """
    SELECT name FROM aftercommit.queues
    WHERE left_in_broker AND deleted_at < now() - $1::float8 * interval '1 second' ORDER BY name
"""
_GONE: Final = "UPDATE aftercommit.queues SET left_in_broker = false WHERE name = $1 AND deleted_at IS NOT NULL"


async def begin_delete(fetch: Fetch, name: str, mode: DeleteMode, *, move_to: str | None) -> QueueRow | None:
    """Close a queue for good; maintenance does the rest. Asked again, the last ``mode`` holds. None: there is no such
    queue. By primary key."""
    rows = await fetch(_BEGIN_DELETE, name, mode, move_to)
    return _row(rows[0]) if rows else None


async def stop_delete(fetch: Fetch, name: str) -> None:
    """Open a queue again that was to be deleted if nothing was in it. By primary key."""
    await fetch(_STOP_DELETE, name, DeleteMode.REFUSE)


async def end_delete(fetch: Fetch, name: str, *, after_seconds: float) -> bool:
    """The queue is empty: if it has been closed for so long it is gone now, and its work queues are to be deleted in
    RabbitMQ. Whether it was. By primary key."""
    return bool(await fetch(_END_DELETE, name, after_seconds))


async def revive(fetch: Fetch, name: str) -> None:
    """A queue that was deleted while nothing was in it has a task: it is there again. By primary key."""
    await fetch(_REVIVE, name)


async def deleting(fetch: Fetch) -> list[QueueRow]:
    """The queues that are being deleted. Reads the table."""
    return [_row(row) for row in await fetch(_DELETING)]


async def left_in_broker(fetch: Fetch, *, after_seconds: float) -> list[str]:
    """The queues that were deleted so long ago, and whose work queues RabbitMQ may still have. Reads the table."""
    return [row["name"] for row in await fetch(_LEFT, after_seconds)]


async def gone_from_broker(fetch: Fetch, name: str) -> None:
    """RabbitMQ has them no more. By primary key."""
    await fetch(_GONE, name)


_UNFINISHED: Final = """
    SELECT (SELECT count(*) FROM (
        SELECT FROM aftercommit.tasks WHERE finished_at IS NULL AND dispatch > 0 AND queue = $1 LIMIT $2
    ) sent_out) + (SELECT count(*) FROM (
        SELECT FROM aftercommit.tasks WHERE finished_at IS NULL AND dispatch = 0 AND queue = $1 LIMIT $2
    ) scheduled) AS unfinished
"""
_FILL: Final = """
    SELECT asked.queue, (SELECT count(*) FROM (
        SELECT FROM aftercommit.tasks t
        WHERE t.finished_at IS NULL AND t.dispatch > 0 AND t.queue = asked.queue LIMIT asked.most + 1
    ) counted) AS unfinished
    FROM unnest($1::text[], $2::int[]) AS asked (queue, most)
"""


async def unfinished(fetch: Fetch, name: str, *, most: int) -> int:
    """How many tasks of a queue are not final, counted up to ``most`` of those that were sent out and as many that are
    scheduled. Index-only scans of ``tasks_unfinished`` and ``tasks_scheduled``."""
    (row,) = await fetch(_UNFINISHED, name, most)
    return int(row["unfinished"])


async def fill(fetch: Fetch, limits: Sequence[tuple[str, int]]) -> dict[str, int]:
    """How many tasks of each queue are sent out and not final, counted up to one more than its limit. Index-only scans
    of ``tasks_unfinished``."""
    rows = await fetch(_FILL, [name for name, _ in limits], [most for _, most in limits])
    return {row["queue"]: row["unfinished"] for row in rows}


def _row(row: Any) -> QueueRow:
    options = QueueOptions(
        name=row["name"],
        description=row["description"],
        priorities=None if row["priorities"] is None else tuple(row["priorities"]),
        types=None if row["types"] is None else tuple(row["types"]),
        max_waiting=row["max_waiting"],
        max_payload_bytes=row["max_payload_bytes"],
        max_retries=row["max_retries"],
        retry=row["retry"],
        timeout_seconds=row["timeout_seconds"],
        ordering=Ordering(row["ordering"]),
        weights=None if row["weights"] is None else tuple(row["weights"]),
        max_running=row["max_running"],
        rate_per_second=row["rate_per_second"],
        burst=row["burst"],
        paused=row["paused_at"] is not None,
        deleting=row["deleting_at"] is not None,
    )
    return QueueRow(
        options,
        row["position"],
        row["paused_at"],
        row["paused_by"],
        row["deleting_at"],
        row["delete_mode"],
        row["move_to"],
        row["deleted_at"],
        row["created_at"],
        row["updated_at"],
    )
