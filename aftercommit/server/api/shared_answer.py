"""An answer that costs something: computed once for all who ask, and not all the time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

FRESH_SECONDS: Final = 1.0
"""How long an answer serves at least."""

SHARE: Final = 0.05
"""The most of the time that is spent on computing, however many ask: an expensive answer serves for longer."""

PATIENCE_SECONDS: Final = 1.0
"""How long a caller waits for a new answer where there is an old one."""

LONGEST_SECONDS: Final = 60.0
"""An answer older than this serves nobody."""


class SharedAnswer(Generic[T]):
    def __init__(self, compute: Callable[[], Awaitable[T]], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._compute = compute
        self._clock = clock
        self._computing: asyncio.Task[T] | None = None
        self._last: T | None = None
        self._computed_at = -LONGEST_SECONDS
        self._fresh_until = -1.0

    async def get(self) -> T:
        """The answer, mostly of the last second; up to LONGEST_SECONDS old where computing takes long.

        Raises what computing raises; nothing of that is kept.
        """
        last, now = self._last, self._clock()
        if last is not None and now < self._fresh_until:
            return last
        if self._computing is None:
            self._computing = asyncio.create_task(self._recompute(), name="shared-answer")
            self._computing.add_done_callback(self._forget)
        # Shielded: who goes away takes nothing from the others.
        computing = asyncio.shield(self._computing)
        if last is None or now - self._computed_at > LONGEST_SECONDS:
            return await computing
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await computing
        except TimeoutError:
            return last

    async def close(self) -> None:
        """Give up what is being computed."""
        if self._computing is not None:
            self._computing.cancel()
            await asyncio.wait([self._computing])

    async def _recompute(self) -> T:
        began = self._clock()
        self._last = answer = await self._compute()
        self._computed_at = self._clock()
        self._fresh_until = self._computed_at + max(FRESH_SECONDS, (self._computed_at - began) / SHARE)
        return answer

    def _forget(self, computing: asyncio.Task[T]) -> None:
        self._computing = None
        if not computing.cancelled():
            computing.exception()  # who asked is told; nobody may have
