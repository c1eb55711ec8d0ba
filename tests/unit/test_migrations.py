"""The code knows the newest of its migrations without reading them."""

from alembic.config import Config
from alembic.script import ScriptDirectory

from aftercommit.db import schema_version
from tests.integration.conftest import ROOT


def test_code_names_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "alembic"))
    assert ScriptDirectory.from_config(config).get_current_head() == schema_version.HEAD
