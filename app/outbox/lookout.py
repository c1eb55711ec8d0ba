"""Looks for rows that the relay's rounds do not see, and for those whose wake-up call was lost."""

import time
from collections.abc import Callable
from typing import Final

from app.db import outbox
from app.db.link import Link
from app.outbox.floors import Floors

PATIENCE: Final = 20
"""A look takes at most one part in so many of the time: it reads past all that a long transaction keeps."""


class Lookout:
    """On a link of its own, so that no round waits for a look."""

    def __init__(self, link: Link, floors: Floors, *, wake: Callable[[], None], poll_seconds: float) -> None:
        self._link = link
        self._floors = floors
        self._wake = wake
        self._poll_seconds = poll_seconds

    async def tick(self) -> float:
        """Raises DatabaseUnavailable."""
        began_at = time.monotonic()
        waiting = await outbox.first_waiting(self._link.fetch)
        for destination, row_id in waiting:
            self._floors.left_behind(destination, row_id)
        if waiting:
            self._wake()
        return max(self._poll_seconds, (time.monotonic() - began_at) * PATIENCE)
