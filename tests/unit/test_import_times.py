"""What an import costs whoever only writes handlers, or only submits."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
ROUNDS: Final = 7

_TIMED: Final = "import time; began = time.process_time(); import {module}; print(time.process_time() - began)"
_LOADED: Final = "import {module}, sys; print(*sys.modules)"


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout


def loaded(module: str) -> set[str]:
    return set(run(_LOADED.format(module=module)).split())


@pytest.mark.parametrize(
    ("module", "seconds"), [("aftercommit", 0.25), ("aftercommit.handler", 0.25), ("aftercommit.client", 0.4)]
)
def test_import_is_quick(module: str, seconds: float) -> None:
    # Processor time, and the quickest: other work on the machine makes an import slower, and nothing makes it quicker.
    assert min(float(run(_TIMED.format(module=module))) for _ in range(ROUNDS)) < seconds


def test_package_imports_nothing_that_its_parts_need() -> None:
    assert not loaded("aftercommit") & {"httpx", "pydantic", "tenacity", "aftercommit.client", "aftercommit.handler"}


def test_handlers_are_written_without_the_client() -> None:
    assert not loaded("aftercommit.handler") & {"httpx", "tenacity", "aftercommit.client"}


def test_client_needs_nothing_of_a_worker_or_server() -> None:
    forbidden = {"asyncpg", "aio_pika", "fastapi", "sqlalchemy", "structlog", "aftercommit.core", "aftercommit.db"}
    assert not loaded("aftercommit.client") & forbidden
