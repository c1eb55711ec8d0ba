"""Writes down when an attempt's clock stands and when it goes on, so that the task's row tells the truth.

While ``tasks.started_at`` is null the task shows that it waits, and the rescuer does not take it for overdue.
"""

import asyncio
from typing import Final

from aftercommit.db import attempt_starts
from aftercommit.db.attempt_starts import StartTime
from aftercommit.db.database import DatabaseConnection
from aftercommit.runtime.poll import first_of, poll
from aftercommit.worker.attempt import Attempt

IDLE_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 0.5
"""The wait before another try at rows that somebody holds locked."""

SETTLE_SECONDS: Final = 5.0


class StartTimes:
    """Gathers attempts whose row is to be brought up to date, and writes them in batches on a connection of its own,
    which is opened at the first need."""

    def __init__(self, connection: DatabaseConnection) -> None:
        self._connection = connection
        self._pending: dict[Attempt, asyncio.Event] = {}
        self._wake = asyncio.Event()

    def note(self, attempt: Attempt) -> asyncio.Event:
        """Have the row follow the attempt's clock. The event is set when it does, or when the attempt has ended."""
        written = self._pending[attempt] = asyncio.Event()
        self._wake.set()
        return written

    async def follow(self, attempt: Attempt) -> None:
        """Return when the row follows the attempt's clock, or after SETTLE_SECONDS: then it follows later."""
        await first_of(self.note(attempt), timeout_seconds=SETTLE_SECONDS)

    async def run(self, stopping: asyncio.Event) -> None:
        async with self._connection:
            await poll("start_times", self._tick, stopping=stopping, wake=self._wake)

    async def _tick(self) -> float:
        batch = {attempt: written for attempt, written in self._pending.items() if not attempt.ended}
        self._forget({attempt: written for attempt, written in self._pending.items() if attempt.ended})
        if batch:
            done = await attempt_starts.set_start_times(self._connection.fetch, [_start_time(each) for each in batch])
            self._forget({attempt: written for attempt, written in batch.items() if attempt.task.id in done})
        return RETRY_SECONDS if self._pending else IDLE_SECONDS

    def _forget(self, written: dict[Attempt, asyncio.Event]) -> None:
        for attempt, event in written.items():
            event.set()
            if self._pending.get(attempt) is event:  # not noted again meanwhile
                del self._pending[attempt]


def _start_time(attempt: Attempt) -> StartTime:
    clock, task = attempt.clock, attempt.task
    return StartTime(task.id, task.attempt, task.worker, None if clock.stands else clock.elapsed_seconds)
