"""Statements that tell callers in SQL what they must know of the settings: the functions of migration 0009 read it."""

from collections.abc import Sequence
from typing import Final

from aftercommit.core.setting_types import SchemaCheck
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
    """Make ``names`` known, the default queue first. Queues that were known before stay so, after these; one that was
    deleted stays so too. Served by the primary key; reads all of the table, which has a row per queue."""
    await fetch(_QUEUES, names)


_LIMITS: Final = """
    INSERT INTO aftercommit.shared_settings AS s (max_payload_bytes, schema_check) VALUES ($1, $2)
    ON CONFLICT (id) DO UPDATE SET max_payload_bytes = excluded.max_payload_bytes, schema_check = excluded.schema_check
        WHERE (s.max_payload_bytes, s.schema_check) <> (excluded.max_payload_bytes, excluded.schema_check)
"""


async def limits(fetch: Fetch, *, max_payload_bytes: int, schema_check: SchemaCheck) -> None:
    """Make known what a submit may have. Served by the primary key."""
    await fetch(_LIMITS, max_payload_bytes, schema_check)
