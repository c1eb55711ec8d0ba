"""``aftercommit migrate``: brings the database to the schema of this version."""

import sys
from pathlib import Path
from typing import Final

from alembic.config import Config

import aftercommit
from aftercommit.db.engine import is_outage
from aftercommit.db.schema_version import HEAD
from alembic import command

_PACKAGE: Final = Path(aftercommit.__file__).parent


def migrations_folder() -> Path:
    """Inside an installed package, beside it in a checkout."""
    shipped = _PACKAGE / "_migrations"
    return shipped if shipped.exists() else _PACKAGE.parent / "alembic"


def main() -> None:
    """Run the migrations that the database lacks, one runner at a time.

    Exits 1 when Postgres cannot be reached, 2 on a bad setting.
    """
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    try:
        command.upgrade(config, "head")
    except Exception as error:
        if not is_outage(error):
            raise
        print(f"Postgres cannot be reached: {error}", file=sys.stderr)
        sys.exit(1)
    print(f"The database is at {HEAD}.", flush=True)
