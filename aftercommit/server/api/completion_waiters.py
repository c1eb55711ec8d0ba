"""Waits for tasks to become final: one statement per tick for all who wait, none when nobody does."""

import asyncio
from typing import Final
from uuid import UUID

from aftercommit.db import tasks
from aftercommit.db.database import Database
from aftercommit.runtime.poll import first_of, poll

TICK_SECONDS: Final = 0.05


class CompletionWaiters:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiters: dict[UUID, list[asyncio.Event]] = {}
        self._wake = asyncio.Event()

    async def wait(self, task_id: UUID, seconds: float) -> None:
        """Return when the task is final, or after ``seconds``."""
        finished = asyncio.Event()
        self._waiters.setdefault(task_id, []).append(finished)
        self._wake.set()
        try:
            await first_of(finished, timeout_seconds=seconds)
        finally:
            waiting = self._waiters.get(task_id, [])
            if finished in waiting:
                waiting.remove(finished)
            if not waiting:
                self._waiters.pop(task_id, None)

    def release(self) -> None:
        """Let everybody go: the process stops."""
        for waiting in self._waiters.values():
            for finished in waiting:
                finished.set()

    async def run(self, stopping: asyncio.Event) -> None:
        await poll("watch", self._tick, stopping=stopping, wake=self._wake)

    async def _tick(self) -> float:
        if not self._waiters:
            return 60
        final = await tasks.finished_among(self._database.fetch, list(self._waiters))
        for task_id in final:
            for finished in self._waiters.get(task_id, []):
                finished.set()
        return TICK_SECONDS
