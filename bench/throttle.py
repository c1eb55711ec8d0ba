"""Keeps a load sustained: it pauses while the service is behind."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import asyncpg

from bench.progress import Progress, id_milliseconds

LOOK_SECONDS: Final = 0.05


async def throttle(dsn: str, *, backlog_seconds: float, on_change: Callable[[bool], None]) -> None:
    """Until cancelled: ``on_change(True)`` when the oldest task that was submitted from now on and is not finished is
    older than ``backlog_seconds``, ``on_change(False)`` when it no longer is."""
    connection = await asyncpg.connect(dsn, timeout=10)
    progress = Progress(connection, since=time.time())
    paused = False
    while True:
        oldest = await progress.oldest_unfinished()
        behind = oldest is not None and time.time() - id_milliseconds(oldest) / 1000 > backlog_seconds
        if behind != paused:
            paused = behind
            on_change(paused)
        await asyncio.sleep(LOOK_SECONDS)
