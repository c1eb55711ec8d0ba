"""How often the relay looks for rows that nobody announces: those of callers who submit in their own transaction. Pure.

A NOTIFY inside each of their transactions would take a lock of the whole cluster at its commit. So the relay looks soon
again after it has found such a row, and ever less often while none comes.
"""

from typing import Final

SHORTEST_SECONDS: Final = 0.01
PATIENCE: Final = 20
"""The wait is one part in PATIENCE of the time since the last such row: callers who come every second wait 50 ms at
most, and one that comes alone costs about a hundred looks."""


class PollPace:
    """Times are seconds on the caller's clock."""

    def __init__(self, *, longest_seconds: float) -> None:
        """``longest_seconds``: between two looks when no such row has come for long."""
        self._longest_seconds = longest_seconds
        self._found_at: float | None = None

    def found(self, *, now: float) -> None:
        """A look found rows that nobody had announced."""
        self._found_at = now

    def seconds_until_next(self, *, now: float) -> float:
        if self._found_at is None:
            return self._longest_seconds
        return min(max((now - self._found_at) / PATIENCE, SHORTEST_SECONDS), self._longest_seconds)
