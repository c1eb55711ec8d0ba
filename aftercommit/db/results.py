"""Statements on results that are deleted before their tasks."""

from datetime import datetime
from typing import Final

from aftercommit.db.database import Fetch

# ``result_expires_at`` stays, and tells why there is no result.
_DELETE: Final = """
    WITH old AS (
        SELECT id, result_expires_at FROM aftercommit.tasks
        WHERE result_expires_at <= now() AND result_expires_at >= coalesce($2::timestamptz, '-infinity')
            AND result IS NOT NULL
        ORDER BY result_expires_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
    ), emptied AS (
        UPDATE aftercommit.tasks t SET result = NULL FROM old WHERE t.id = old.id RETURNING old.result_expires_at
    )
    SELECT count(*) AS deleted, max(result_expires_at) AS reached FROM emptied
"""


async def delete_old(fetch: Fetch, *, since: datetime | None, limit: int) -> tuple[int, datetime | None]:
    """Delete up to ``limit`` results whose time is over; how many, and when the last of them was to be deleted. Passes
    over locked rows.

    ``since``: only those that were to be deleted then or later. Without it the statement reads past whatever a long
    transaction keeps of all that it has deleted. Served by ``tasks_with_old_result``.
    """
    (row,) = await fetch(_DELETE, limit, since)
    return int(row["deleted"]), row["reached"]
