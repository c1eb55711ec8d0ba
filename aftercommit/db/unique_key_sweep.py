"""Statements of the sweep of unique keys: keys are deleted that nobody will hold any more.

They are found by walking over the keys, so that those which are held for long are not read again and again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aftercommit.db.database import Fetch

# A task that is not final may hold its key again: one that waits for a retry, say.
_MAY_HOLD: Final = "CASE WHEN k.held_until IS NULL THEN t.finished_at IS NULL ELSE k.held_until > now() END"

_FIND: Final = f"""
    WITH looked AS MATERIALIZED (
        SELECT key, task_id, held_until FROM aftercommit.unique_keys WHERE key > $1::bytea ORDER BY key LIMIT $2
    )
    SELECT (SELECT count(*) FROM looked) AS looked, (SELECT key FROM looked ORDER BY key DESC LIMIT 1) AS last_key,
        ARRAY (
            SELECT k.key FROM looked k LEFT JOIN aftercommit.tasks t ON t.id = k.task_id
            WHERE t.id IS NULL OR NOT ({_MAY_HOLD})
        ) AS found
"""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the keys in their order: how many were ``looked`` at, up to ``last_key`` (None where there was none),
    and which of them nobody will hold any more (``found``)."""

    looked: int
    last_key: bytes | None
    found: Sequence[bytes]


async def find(fetch: Fetch, *, after: bytes, limit: int) -> Stretch:
    """Look at up to ``limit`` keys after ``after``. Locks nothing; served by both primary keys."""
    (row,) = await fetch(_FIND, after, limit)
    return Stretch(row["looked"], row["last_key"], row["found"])


_LOCK: Final = """
    SELECT key FROM aftercommit.unique_keys WHERE key = ANY($1::bytea[]) ORDER BY key FOR UPDATE SKIP LOCKED
"""


async def lock(fetch: Fetch, keys: Sequence[bytes]) -> list[bytes]:
    """Lock these keys, in their order, passing over locked ones: those are being taken. Served by the primary key."""
    return [row["key"] for row in await fetch(_LOCK, keys)]


_DELETE: Final = f"""
    DELETE FROM aftercommit.unique_keys k
    WHERE key = ANY($1::bytea[])
        AND NOT EXISTS (SELECT FROM aftercommit.tasks t WHERE t.id = k.task_id AND {_MAY_HOLD})
    RETURNING key
"""


async def delete(fetch: Fetch, keys: Sequence[bytes]) -> int:
    """Delete those of these keys that nobody will hold any more; how many. The caller holds their locks, taken in an
    earlier statement: a key that was taken meanwhile is seen. Served by both primary keys."""
    return len(await fetch(_DELETE, keys))
