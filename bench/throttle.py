"""Keeps a load sustained: tells how far the service is behind."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import asyncpg

from bench.progress import Progress, id_milliseconds

SWEEP_SECONDS: Final = 0.03


async def watch_oldest(dsn: str, *, on_look: Callable[[float | None], None]) -> None:
    """Until cancelled: ``on_look`` with the Unix time at which the oldest unfinished task was made, of those made from
    now on, or None when all are finished.

    Nothing is counted: that took a quarter of a core from what was to be measured.
    """
    connection = await asyncpg.connect(dsn, timeout=10)
    progress = Progress(connection, since=time.time())
    while True:
        oldest = await progress.oldest_unfinished()
        on_look(id_milliseconds(oldest) / 1000 if oldest is not None else None)
        await asyncio.sleep(SWEEP_SECONDS)
