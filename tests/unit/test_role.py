"""How a role's process ends."""

import subprocess
import sys
from typing import Final

import pytest

PROGRAM: Final = """
import asyncio, os, signal
from aftercommit.runtime.role import run_role

async def role(settings, stopping):
    {before}
    for _ in range({signals}):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
    assert stopping.is_set()

run_role("test", role)
"""


@pytest.mark.parametrize(
    ("before", "signals", "status"),
    [("", 1, 0), ("", 2, 1), ("stopping.set()", 1, 0), ("stopping.set()", 2, 1), ("raise KeyError('a bug')", 1, 1)],
)
def test_second_signal_ends_a_role_and_the_first_never_does(before: str, signals: int, status: int) -> None:
    program = PROGRAM.format(before=before, signals=signals)
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False, capture_output=True)
    assert done.returncode == status, done.stderr
