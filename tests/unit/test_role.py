"""A role as a process: what the signals do."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ROLE = """
import asyncio, os, signal
from aftercommit.runtime.role import run_role

async def role(settings, stopping):
    if {by_itself}:
        stopping.set()
    for _ in range({signals}):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
    await stopping.wait()
    await asyncio.sleep(0.3)
    print("cleaned up")

run_role("worker", role)
"""


@pytest.mark.parametrize(
    ("by_itself", "signals", "status"),
    [(True, 0, 0), (True, 1, 0), (False, 1, 0), (False, 2, 1), (True, 2, 1)],
)
def test_first_signal_stops_in_order_even_a_role_that_stops_by_itself(
    by_itself: bool, signals: int, status: int
) -> None:
    program = ROLE.format(by_itself=by_itself, signals=signals)
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == status, ended.stderr
    assert ("cleaned up" in ended.stdout) is (status == 0)
