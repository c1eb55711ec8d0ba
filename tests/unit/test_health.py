import os
import time
from pathlib import Path

import pytest

from aftercommit.devstack.ports import free_port
from aftercommit.runtime.health import OLDEST_SECONDS, find_flaw


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEALTH_FILE", str(tmp_path / "health"))
    return tmp_path / "health"


def test_fresh_sign_of_life_is_healthy(file: Path) -> None:
    file.touch()
    assert find_flaw([]) is None


def test_old_sign_of_life_is_told_with_its_age(file: Path) -> None:
    file.touch()
    then = time.time() - OLDEST_SECONDS - 5
    os.utime(file, (then, then))
    flaw = find_flaw([])
    assert flaw is not None
    assert "for 20 s" in flaw


def test_role_that_has_not_started_is_unhealthy(file: Path) -> None:
    flaw = find_flaw([])
    assert flaw is not None
    assert "no sign of life yet" in flaw


def test_missing_setting_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEALTH_FILE", raising=False)
    flaw = find_flaw([])
    assert flaw is not None
    assert "HEALTH_FILE is not set" in flaw


def test_url_that_does_not_answer_is_unhealthy() -> None:
    url = f"http://127.0.0.1:{free_port()}/readyz"
    flaw = find_flaw([url])
    assert flaw is not None
    assert flaw.startswith(url)
