"""Statements on ``idempotency_keys``; the claim of a key is part of the submit statement."""

from typing import Any, Final

from aftercommit.db.database import Fetch

KEY_HOURS: Final = 24
"""How long a key is held."""

_GET: Final = "SELECT request_hash, task_ids FROM aftercommit.idempotency_keys WHERE key = $1"

_PRUNE: Final = f"""
    WITH pruned AS (
        DELETE FROM aftercommit.idempotency_keys WHERE key = ANY (ARRAY (
            SELECT key FROM aftercommit.idempotency_keys
            WHERE created_at < now() - interval '{KEY_HOURS} hours'
            ORDER BY created_at LIMIT $1 FOR UPDATE SKIP LOCKED
        ))
        RETURNING key
    )
    SELECT count(*) AS pruned FROM pruned
"""


async def get(fetch: Fetch, key: str) -> Any | None:
    """The request that holds ``key``: its ``request_hash`` and ``task_ids``. Served by the primary key."""
    rows = await fetch(_GET, key)
    return rows[0] if rows else None


async def prune(fetch: Fetch, *, limit: int) -> int:
    """Delete up to ``limit`` keys whose time is over; how many. Served by ``idempotency_keys_by_age``."""
    (row,) = await fetch(_PRUNE, limit)
    return int(row["pruned"])
