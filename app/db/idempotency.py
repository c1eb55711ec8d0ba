"""Statements on ``idempotency_keys``; the claim of a key is part of the submit statement."""

from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tasks import IDEMPOTENCY_KEY_HOURS

_GET: Final = text("SELECT request_hash, task_ids FROM idempotency_keys WHERE key = :key")

_PRUNE: Final = text(f"""
    DELETE FROM idempotency_keys WHERE key = ANY (ARRAY (
        SELECT key FROM idempotency_keys
        WHERE created_at < now() - interval '{IDEMPOTENCY_KEY_HOURS} hours'
        ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ))
""")


async def get(connection: AsyncConnection, key: str) -> Row[Any] | None:
    """The request that holds ``key``: its hash and its tasks' ids. Served by the primary key."""
    return (await connection.execute(_GET, {"key": key})).one_or_none()


async def prune(connection: AsyncConnection, *, limit: int) -> int:
    """Delete up to ``limit`` keys whose time is over; how many. Served by ``idempotency_keys_by_age``."""
    return (await connection.execute(_PRUNE, {"limit": limit})).rowcount
