"""Which types this worker knows, and whether it must look."""

import asyncio
from collections.abc import Iterable


class TypeFilter:
    """``on`` once this worker has met a type that it does not know: other code bases send tasks to its queues. From
    then on messages are sorted before their tasks are claimed; before, they pay nothing for this.

    ``wake`` is set when it is switched on, and whenever there may be something to sort.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self.known = sorted(known)
        self.on = False
        self.wake = asyncio.Event()

    def switch_on(self) -> None:
        self.on = True
        self.wake.set()
