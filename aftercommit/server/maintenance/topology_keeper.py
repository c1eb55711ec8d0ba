"""Declares the queues again and again, so that a queue that vanished comes back by itself."""

import asyncio
from typing import Final

from aftercommit.broker.declaration import Declarer
from aftercommit.runtime.known_queues import KnownQueues


class TopologyKeeper:
    def __init__(self, declarer: Declarer, queues: KnownQueues, *, interval_seconds: float) -> None:
        self._declarer = declarer
        self._interval_seconds = interval_seconds
        self._declared_at: float | None = None
        self.wake: Final = asyncio.Event()
        """Set when there may be new queues."""
        queues.follow(self.wake)

    async def run_once(self) -> float:
        """Declare everything, or what is new since the last time. What cannot be used is logged, and does not stop the
        rest. Returns the seconds until the next time. Raises BrokerUnavailable."""
        now = asyncio.get_running_loop().time()
        if self._declared_at is None or now - self._declared_at >= self._interval_seconds:
            await self._declarer.declare()
            self._declared_at = now
        elif not self._declarer.is_complete:
            await self._declarer.declare_new()
        return max(self._declared_at + self._interval_seconds - now, 0.01)
