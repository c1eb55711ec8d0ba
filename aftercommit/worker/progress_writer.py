"""Writes what handlers tell of their progress: the latest of each task, gathered, and off the handlers' path."""

import asyncio
import threading
from contextlib import suppress
from typing import Final
from uuid import UUID

from aftercommit.core.errors import DatabaseTimeout, DatabaseUnavailable
from aftercommit.db import progress
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.progress import Progress
from aftercommit.runtime.poll import poll

INTERVAL_SECONDS: Final = 0.6
"""Between two writes; poll's jitter takes a tenth of it, which leaves two a second at most."""

IDLE_SECONDS: Final = 60.0

STATEMENT_SECONDS: Final = 5.0
"""A worker that stops waits so long for the last write."""


class ProgressWriter:
    """One statement for all tasks, on a connection of its own that is opened at the first need. A write that fails is
    tried again with what was told meanwhile; no attempt hears of it."""

    def __init__(self, connection: DatabaseConnection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._lock = threading.Lock()
        self._latest: dict[UUID, Progress] = {}
        self._idle = False
        """Nothing was told since the last look: the next one wakes the loop."""

    def tell(self, told: Progress) -> None:
        """Have ``told`` written unless another one follows. From any thread; returns at once."""
        with self._lock:
            self._latest[told.task_id] = told
            wakes, self._idle = self._idle, False
        if wakes:
            with suppress(RuntimeError):  # a thread may outlive the worker's loop
                self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self, stopping: asyncio.Event) -> None:
        """Write until ``stopping``, and then what is left."""
        async with self._connection:
            await poll("progress", self._tick, stopping=stopping, wake=self._wake)
            with suppress(DatabaseUnavailable, DatabaseTimeout):
                await self._tick()

    async def _tick(self) -> float:
        with self._lock:
            batch, self._latest = self._latest, {}
            self._idle = not batch
        if not batch:
            return IDLE_SECONDS
        try:
            await progress.write(self._connection.fetch, list(batch.values()))
        except BaseException:
            with self._lock:
                self._latest = batch | self._latest
            raise
        return INTERVAL_SECONDS
