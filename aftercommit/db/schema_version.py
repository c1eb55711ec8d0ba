"""Which migration this code expects, and which one the database has."""

from typing import Final

import asyncpg

from aftercommit.db.database import Fetch

HEAD: Final = "0012"
"""The newest migration that ships with this code. Said here, since Alembic itself is 8 MB in each API process."""

_CURRENT: Final = "SELECT version_num FROM aftercommit.alembic_version"


async def current(fetch: Fetch) -> str | None:
    """The migration that the database is at, None where it was never migrated."""
    try:
        rows = await fetch(_CURRENT)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return None
    return str(rows[0]["version_num"]) if rows else None
