"""The wrong settings that roles under test are given are complete and valid."""

import pytest

from aftercommit.core.settings import Settings
from tests.role_settings import DECLARED, ROLES, SHARED, WRONG, others_settings


def test_each_setting_is_shared_or_belongs_to_one_role() -> None:
    """A new setting that is missing here would be the same for all roles, and one that reads it by mistake not found.
    Add it to ``tests/role_settings.py``, with a value that nobody else could live with."""
    owned = [name for values in WRONG.values() for name in values]
    assert sorted([*owned, *SHARED, *DECLARED]) == sorted(map(str.upper, Settings.model_fields))


@pytest.mark.parametrize("role", ROLES)
def test_others_settings_are_valid_and_not_the_defaults(role: str) -> None:
    values = {name.lower(): value for name, value in others_settings(role).items()}
    found, defaults = Settings(_env_file=None, **values), Settings(_env_file=None)  # type: ignore[arg-type]  # text, as in an environment
    assert not {name for name in values if getattr(found, name) == getattr(defaults, name)}
