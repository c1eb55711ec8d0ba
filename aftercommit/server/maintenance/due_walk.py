"""A walk over tasks in the order of a time that they have: each is taken when its time has come."""

import asyncio
from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Final

BATCH: Final = 1_000
SHORTEST_SECONDS: Final = 0.01

LOOKS_BACK: Final = timedelta(minutes=1)
"""Before the last round. Tasks whose time came earlier were taken then, or could not be taken for so long, locked or
uncommitted: the sweep finds those."""

SWEEP_SECONDS: Final = 20.0


class DueWalk(ABC):
    """Any number may run: each takes other tasks, and passes over those that are locked elsewhere.

    A round looks back no further than LOOKS_BACK before the last one, so that a long transaction, which keeps the index
    entries of all that was taken since, does not slow it. The sweep looks from the beginning.
    """

    def __init__(self, *, interval_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self._looked_at: float | None = None

    async def run_once(self) -> float:
        """Take a batch. Returns 0 after a full one, else the seconds until the next time of a task comes, at most the
        interval."""
        now = asyncio.get_running_loop().time()
        within = None if self._looked_at is None else LOOKS_BACK + timedelta(seconds=now - self._looked_at)
        if await self.take(within) == BATCH:
            return 0
        self._looked_at = now
        soonest = await self.seconds_until_next()
        return (
            self._interval_seconds if soonest is None else min(max(soonest, SHORTEST_SECONDS), self._interval_seconds)
        )

    async def sweep(self) -> float:
        """Take a batch of whatever is left, however long ago its time came. Returns 0 after a full one, else
        SWEEP_SECONDS."""
        return 0 if await self.take(None) == BATCH else SWEEP_SECONDS

    @abstractmethod
    async def take(self, within: timedelta | None) -> int:
        """Take up to BATCH tasks whose time came ``within`` so short a time, or whenever it came; how many."""

    @abstractmethod
    async def seconds_until_next(self) -> float | None:
        """How long until the next time of a task comes, None if none will."""
