"""Statements of the expirer: waiting tasks whose deadline has passed are final."""

from datetime import timedelta
from typing import Final

from aftercommit.core import failures, states
from aftercommit.core.states import Event, Status
from aftercommit.db.database import Fetch


def _expire(since: str) -> str:
    return f"""
    WITH over AS (
        SELECT id FROM aftercommit.tasks
        WHERE finished_at IS NULL AND expires_at <= now() AND expires_at >= {since} AND status = ANY($2::text[])
        ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    UPDATE aftercommit.tasks t
    SET status = '{Status.EXPIRED}', finished_at = now(), enqueued = true, due_at = NULL,
        error = json_build_object(
            'type', '{failures.EXPIRED}', 'message', 'its deadline passed while it waited', 'traceback', NULL
        )
    FROM over WHERE t.id = over.id
    RETURNING t.id
    """


_EXPIRE: Final = _expire("now() - $3::interval")
_EXPIRE_ALL: Final = _expire("'-infinity'")


async def expire(fetch: Fetch, *, limit: int, within: timedelta | None = None) -> int:
    """End up to ``limit`` waiting tasks whose deadline has passed; how many. Passes over locked rows. Their messages,
    if there are any, die at the claim.

    ``within``: only those whose deadline passed so short a time ago. Without it the statement reads past whatever a
    long transaction keeps of all that ever had a deadline. Served by ``tasks_expiring``.
    """
    arguments = (limit, states.SOURCES[Event.EXPIRE])
    return len(await (fetch(_EXPIRE_ALL, *arguments) if within is None else fetch(_EXPIRE, *arguments, within)))


# What has expired already and was not ended runs, or is locked elsewhere.
_NEXT: Final = """
    SELECT extract(epoch FROM min(expires_at) - now())::float8 AS seconds
    FROM aftercommit.tasks WHERE finished_at IS NULL AND expires_at > now()
"""


async def seconds_until_next(fetch: Fetch) -> float | None:
    """How long until the next deadline passes, None if there is none. Served by ``tasks_expiring``."""
    (row,) = await fetch(_NEXT)
    seconds: float | None = row["seconds"]
    return seconds
