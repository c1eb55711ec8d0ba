"""Which migration this code expects, and which one the database has."""

from pathlib import Path
from typing import Final

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

SCRIPTS: Final = Path(__file__).parents[2] / "alembic"

_CURRENT: Final = text("SELECT version_num FROM alembic_version")


def expected_head() -> str:
    """The newest migration that ships with this code. Reads the scripts' folder: call it once."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    return ScriptDirectory.from_config(config).get_current_head() or ""


async def current(connection: AsyncConnection) -> str | None:
    """The migration that the database is at, None where it was never migrated."""
    try:
        version: str | None = (await connection.execute(_CURRENT)).scalar_one_or_none()
    except ProgrammingError:
        return None
    return version
