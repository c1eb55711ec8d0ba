"""Which migration this code expects, and which one the database has."""

from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

HEAD: Final = "0003"
"""The newest migration that ships with this code. Said here, since Alembic itself is 8 MB in each API process."""

_CURRENT: Final = text("SELECT version_num FROM alembic_version")


async def current(connection: AsyncConnection) -> str | None:
    """The migration that the database is at, None where it was never migrated."""
    try:
        version: str | None = (await connection.execute(_CURRENT)).scalar_one_or_none()
    except ProgrammingError:
        return None
    return version
