"""The machine itself, so that runs on different days can be told apart from different code."""

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.figures import Figure, Sample
from bench.ground import Ground
from bench.scenario import Scenario

ROUNDS: Final = 5_000_000
WRITES: Final = 500
PAGE: Final = bytes(8_192)


async def measure(ground: Ground) -> Sample:
    return {
        "loop": await asyncio.to_thread(_loop_rate) / 1e6,
        "commit": await asyncio.to_thread(_write_seconds, ground.folder) * 1e6,
    }


def _loop_rate() -> float:
    """Rounds/s."""
    started_at = time.perf_counter()
    total = 0
    for number in range(ROUNDS):
        total += number
    return ROUNDS / (time.perf_counter() - started_at)


def _write_seconds(folder: Path) -> float:
    """To have a page on the disk, as each commit must."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        started_at = time.perf_counter()
        for _ in range(WRITES):
            os.pwrite(file.fileno(), PAGE, 0)
            os.fdatasync(file.fileno())
        return (time.perf_counter() - started_at) / WRITES


SCENARIO: Final = Scenario(
    "machine",
    "no part of ours: a loop in Python that adds numbers, and writes of 8 kB that must be on the disk, where the "
    "servers keep their data",
    (
        Figure("loop", "the machine: a Python loop on one core", "million rounds/s"),
        Figure("commit", "the machine: a page written and synced", "µs"),
    ),
    measure,
)
