"""Statements on the outbox rows that the process that committed them publishes by itself (``eager_until``).

A process that dies leaves its rows behind. The relays take them once ``eager_until`` has passed.
"""

from collections.abc import Sequence
from typing import Final

from aftercommit.db.database import Fetch

DELETE_PUBLISHED: Final = """
    DELETE FROM aftercommit.outbox_rows WHERE id = ANY (ARRAY (
        SELECT id FROM aftercommit.outbox_rows WHERE id = ANY({ids}) AND (eager_until IS NULL) IS FALSE
        FOR UPDATE SKIP LOCKED
    ))
"""
"""Waits for nobody: a row that a relay has taken meanwhile may be locked for as long as the broker is silent. The
condition is worded so that ``outbox_eager`` does not serve it: that may be full of dead entries."""

_DELETE: Final = DELETE_PUBLISHED.format(ids="$1::bigint[]")


async def delete(fetch: Fetch, ids: Sequence[int]) -> None:
    """Forget rows that RabbitMQ confirmed, but for those that a relay has taken. Served by the primary key."""
    await fetch(_DELETE, ids)


_HAND_OVER: Final = """
    UPDATE aftercommit.outbox_rows SET id = DEFAULT, eager_until = NULL
    WHERE id = ANY (ARRAY (
        SELECT id FROM aftercommit.outbox_rows WHERE id = ANY($1::bigint[]) AND (eager_until IS NULL) IS FALSE
        FOR UPDATE SKIP LOCKED
    ))
"""


async def hand_over(fetch: Fetch, ids: Sequence[int]) -> None:
    """Give rows to the relays at once. Served by the primary key."""
    await fetch(_HAND_OVER, ids)


_ADOPT: Final = """
    WITH lapsed AS (
        SELECT id FROM aftercommit.outbox_rows
        WHERE eager_until > now() - $1::float8 * interval '1 second' AND eager_until <= now()
        ORDER BY eager_until LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    UPDATE aftercommit.outbox_rows o SET id = DEFAULT, eager_until = NULL
    FROM lapsed WHERE o.id = lapsed.id RETURNING o.id
"""


async def adopt(fetch: Fetch, *, lapsed_within_seconds: float, limit: int) -> int:
    """Give up to ``limit`` rows to the relays whose process did not publish them in time; how many. Passes over locked
    rows.

    It reads those that lapsed within ``lapsed_within_seconds``: what lapsed before was adopted before, and the index
    may still hold its entries. Served by ``outbox_eager`` and the primary key.
    """
    return len(await fetch(_ADOPT, lapsed_within_seconds, limit))
