"""Statements that tell callers in SQL what they must know of the settings: the functions of migration 0009 read it."""

from collections.abc import Sequence
from typing import Final

from aftercommit.db.database import Fetch

_QUEUES: Final = """
    WITH no_more AS (
        UPDATE aftercommit.queues SET position = NULL WHERE name <> ALL ($1::text[]) AND position IS NOT NULL
    )
    INSERT INTO aftercommit.queues AS q (name, position)
    SELECT name, position FROM unnest($1::text[]) WITH ORDINALITY AS given (name, position) ORDER BY name
    ON CONFLICT (name) DO UPDATE SET position = excluded.position WHERE q.position IS DISTINCT FROM excluded.position
"""


async def queues(fetch: Fetch, names: Sequence[str]) -> None:
    """Make ``names`` known, the default queue first. Queues that were known before stay so, after these. Served by the
    primary key; reads all of the table, which has a row per queue."""
    await fetch(_QUEUES, names)


_MAX_PAYLOAD_BYTES: Final = """
    INSERT INTO aftercommit.shared_settings AS s (max_payload_bytes) VALUES ($1)
    ON CONFLICT (id) DO UPDATE SET max_payload_bytes = excluded.max_payload_bytes
        WHERE s.max_payload_bytes <> excluded.max_payload_bytes
"""


async def max_payload_bytes(fetch: Fetch, limit: int) -> None:
    """Make the largest payload known that a submit may have. Served by the primary key."""
    await fetch(_MAX_PAYLOAD_BYTES, limit)
