"""Wakes the loops that claim: one for each reason, and none without need."""

import asyncio


class ClaimSignal:
    """A loop with nothing to claim rests. ``wants_slots``: messages wait for slots, so a free one wakes a loop."""

    def __init__(self) -> None:
        self.wants_slots = True
        self._resting: set[asyncio.Event] = set()

    def rest(self, wake: asyncio.Event) -> None:
        """``wake`` is set when there is a reason to go on."""
        self._resting.add(wake)

    def work(self, wake: asyncio.Event) -> None:
        """The loop goes on, whatever woke it."""
        self._resting.discard(wake)

    def set(self) -> None:
        """There may be something to claim."""
        if self._resting:
            self._resting.pop().set()

    def slot_freed(self) -> None:
        if self.wants_slots:
            self.set()
