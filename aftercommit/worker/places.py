"""Places of which there are few, such as processes and transactions: attempts wait for them off their clock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from aftercommit.worker.attempt import Attempt
from aftercommit.worker.start_times import StartTimes

log = structlog.get_logger(__name__)

SHOWN_AFTER_SECONDS: Final = 0.1
"""A shorter wait is not worth a statement."""

LONG_WAIT_SECONDS: Final = 5.0


class Places:
    """``count`` places of a kind that attempts hold and wait for. ``kind`` names one in logs."""

    def __init__(self, count: int, *, kind: str, start_times: StartTimes) -> None:
        self._free = asyncio.Semaphore(count)
        self._kind = kind
        self._start_times = start_times
        self.waiting = 0

    @asynccontextmanager
    async def hold(self, attempt: Attempt) -> AsyncIterator[None]:
        """Hold a place during the block. The attempt's clock stands until one is free; a longer wait shows in its
        task's row, which says so until the attempt goes on."""
        waits = self._free.locked()
        if waits:
            noted = await self._wait(attempt)
        else:
            await self._free.acquire()
            noted = False
        try:
            if noted:
                await self._start_times.follow(attempt)
            yield
        finally:
            self._free.release()

    async def _wait(self, attempt: Attempt) -> bool:
        """Acquire a place; whether the wait was long enough to be noted."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        noted: list[asyncio.Event] = []
        showing = loop.call_later(SHOWN_AFTER_SECONDS, lambda: noted.append(self._start_times.note(attempt)))
        self.waiting += 1
        try:
            with attempt.clock.stopped():
                await self._free.acquire()
        finally:
            showing.cancel()
            self.waiting -= 1
        waited = loop.time() - began
        if waited > LONG_WAIT_SECONDS:
            log.info("attempt_waited", task_id=attempt.task.id, waited_for=self._kind, seconds=round(waited, 1))
        return bool(noted)
