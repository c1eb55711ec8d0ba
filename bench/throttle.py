"""Keeps a load sustained: it pauses while the service is behind."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import asyncpg

from bench.progress import Progress

LOOK_SECONDS: Final = 0.03


async def throttle(dsn: str, *, most_unfinished: int, on_change: Callable[[bool], None]) -> None:
    """Until cancelled: ``on_change(True)`` when more tasks than ``most_unfinished`` that were submitted from now on are
    not finished, ``on_change(False)`` when they no longer are.

    A number, since the age of the oldest would only fall below its bound when everything is done and every stage idle.
    """
    connection = await asyncpg.connect(dsn, timeout=10)
    progress = Progress(connection, since=time.time())
    paused = False
    while True:
        behind = await progress.unfinished() > most_unfinished
        if behind != paused:
            paused = behind
            on_change(paused)
        await asyncio.sleep(LOOK_SECONDS)
