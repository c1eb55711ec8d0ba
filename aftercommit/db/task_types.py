"""Task types as workers declare them: what a handler takes, what it says of itself, and who serves it now."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aftercommit.db.database import Fetch


@dataclass(frozen=True, slots=True)
class DeclaredType:
    """``schema`` is the payload's JSON schema, None where it cannot be described; it and ``options`` are JSON texts."""

    type: str
    description: str | None
    schema: str | None
    options: str


# A worker that starts again rewrites nothing: what follows the table would read all of it anew.
_DECLARE: Final = """
    INSERT INTO aftercommit.task_types AS d (type, description, schema, options, declared_by)
    SELECT type, description, schema::json, options::json, $5
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS u (type, description, schema, options)
    ORDER BY type
    ON CONFLICT (type) DO UPDATE
        SET description = excluded.description, schema = excluded.schema, options = excluded.options,
            declared_by = excluded.declared_by, declared_at = now()
        WHERE (d.description, d.schema::text, d.options::text)
            IS DISTINCT FROM (excluded.description, excluded.schema::text, excluded.options::text)
    RETURNING type
"""


async def declare(fetch: Fetch, types: Sequence[DeclaredType], *, worker: str) -> list[str]:
    """Write down what ``worker`` serves; the types that are new or differ from what was declared before. Locks them in
    the order of their names, by primary key."""
    rows = await fetch(
        _DECLARE,
        [each.type for each in types],
        [each.description for each in types],
        [each.schema for each in types],
        [each.options for each in types],
        worker,
    )
    return [row["type"] for row in rows]


# xmin changes with each version of a row, in whatever order transactions commit.
_VERSIONS: Final = "SELECT type, xmin::text::bigint AS version FROM aftercommit.task_types"
_DETAILS: Final = """
    SELECT type, schema::text AS schema, options ->> 'queue' AS queue, options ->> 'priority' AS priority
    FROM aftercommit.task_types WHERE type = ANY ($1::text[])
"""


async def versions(fetch: Fetch) -> dict[str, int]:
    """Each declared type with a number that changes when it is declared anew. Reads the table, a row per type."""
    return {row["type"]: row["version"] for row in await fetch(_VERSIONS)}


async def details(fetch: Fetch, types: Sequence[str]) -> Sequence[Any]:
    """Of each of ``types`` its JSON ``schema``, as text, and the ``queue`` and ``priority`` of submits that name none.
    By primary key."""
    return await fetch(_DETAILS, types)


_LIST: Final = """
    WITH page AS (
        SELECT * FROM aftercommit.task_types WHERE ($1::text IS NULL OR type > $1) ORDER BY type LIMIT $2
    ), serving AS (
        SELECT w.name, served.type
        FROM aftercommit.workers w, json_object_keys(w.handlers) AS served (type) WHERE w.lease_until > now()
    )
    SELECT page.type, page.description, page.schema, page.options, page.declared_at, page.declared_by,
        ARRAY (SELECT s.name FROM serving s WHERE s.type = page.type ORDER BY s.name) AS workers
    FROM page ORDER BY page.type
"""
_GET: Final = _LIST.replace("($1::text IS NULL OR type > $1) ORDER BY type LIMIT $2", "type = $1")


async def list_page(fetch: Fetch, *, after: str | None, limit: int) -> Sequence[Any]:
    """Types in the order of their names, each with the workers whose leases run. By primary key; reads ``workers``,
    which is small."""
    return await fetch(_LIST, after, limit)


async def get(fetch: Fetch, type: str) -> Any | None:
    """One type, or None. By primary key; reads ``workers``."""
    rows = await fetch(_GET, type)
    return rows[0] if rows else None
