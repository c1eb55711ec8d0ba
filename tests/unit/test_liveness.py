"""The health check of containers, as a function and as the commands that call it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aftercommit.devstack.ports import free_port
from aftercommit.runtime.liveness import OLDEST_SECONDS, find_flaw

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize("module", ["aftercommit.runtime.liveness", "app.health"])
def test_command_exits_with_what_it_finds(module: str, file: Path) -> None:
    check = [sys.executable, "-m", module]
    sick = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert sick.returncode == 1
    assert "no sign of life yet" in sick.stderr
    file.touch()
    assert subprocess.run(check, cwd=ROOT, timeout=60, check=False).returncode == 0
