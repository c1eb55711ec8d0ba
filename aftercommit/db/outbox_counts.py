"""What waits in the outbox and what is parked there, counted in tasks, for operators."""

from collections.abc import Sequence
from typing import Any, Final

from aftercommit.db.database import Fetch

_TASKS: Final = "coalesce(cardinality(task_ids), 1)"

_COUNT: Final = f"""
    SELECT coalesce(sum({_TASKS}) FILTER (WHERE failed_at IS NULL), 0)::bigint AS unpublished,
        coalesce(sum({_TASKS}) FILTER (WHERE failed_at IS NOT NULL), 0)::bigint AS failed,
        extract(epoch FROM now() - min(created_at) FILTER (WHERE failed_at IS NULL))::float8 AS oldest_age_seconds
    FROM aftercommit.outbox_rows
"""

_LIST_FAILED: Final = """
    SELECT id, destination, work_queue, coalesce(task_ids, array_remove(ARRAY[task_id], NULL)) AS task_ids, attempts,
        last_error, created_at, failed_at
    FROM aftercommit.outbox_rows WHERE failed_at IS NOT NULL AND id > $1 ORDER BY id LIMIT $2
"""


async def count(fetch: Fetch) -> Any:
    """How many tasks wait and how long the oldest has; how many are parked. A message that is not one of ours counts as
    one. Reads the whole outbox, seldom large."""
    (row,) = await fetch(_COUNT)
    return row


async def list_failed(fetch: Fetch, *, after: int, limit: int) -> Sequence[Any]:
    """The parked rows, oldest first. Served by ``outbox_failed``."""
    return await fetch(_LIST_FAILED, after, limit)


_REQUEUE: Final = f"""
    UPDATE aftercommit.outbox_rows SET id = DEFAULT, failed_at = NULL, attempts = 0
    WHERE failed_at IS NOT NULL AND ($1::bigint[] IS NULL OR id = ANY($1::bigint[]))
    RETURNING {_TASKS} AS tasks
"""


async def requeue(fetch: Fetch, ids: Sequence[int] | None) -> int:
    """Give parked rows (all, or those with these ids) to the relay again, with new ids, after which it still reads; how
    many tasks. Served by ``outbox_failed``."""
    return sum(row["tasks"] for row in await fetch(_REQUEUE, ids))
