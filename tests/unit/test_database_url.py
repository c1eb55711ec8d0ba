"""Settings become a URL of SQLAlchemy's."""

import pytest

from aftercommit.core.settings import Settings
from aftercommit.db.engine import database_url


def test_password_is_escaped_when_it_holds_special_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", "p@ss/w:rd")
    url = database_url(Settings())
    assert url.password == "p@ss/w:rd"
    assert "p@ss" not in str(url)
