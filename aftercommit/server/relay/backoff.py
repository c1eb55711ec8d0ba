"""Destinations that refused a message are left alone for a while, twice as long after each refusal in a row. Pure."""

from dataclasses import dataclass
from typing import Final

FIRST_SECONDS: Final = 0.2
LONGEST_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Backoff:
    seconds: float
    until: float


class Backoffs:
    """By destination. Times are seconds on the caller's clock. Only destinations in trouble are kept."""

    def __init__(self) -> None:
        self._backoffs: dict[str, _Backoff] = {}

    def refused(self, destination: str, *, now: float) -> None:
        last = self._backoffs.get(destination)
        seconds = min(last.seconds * 2, LONGEST_SECONDS) if last else FIRST_SECONDS
        self._backoffs[destination] = _Backoff(seconds, now + seconds)

    def accepted(self, destination: str) -> None:
        self._backoffs.pop(destination, None)

    def resting(self, *, now: float) -> list[str]:
        """The destinations to leave alone for now."""
        return [destination for destination, backoff in self._backoffs.items() if backoff.until > now]

    def seconds_until_next(self, *, now: float) -> float | None:
        """How long until a resting destination may be tried again; None when none rests."""
        waits = [backoff.until - now for backoff in self._backoffs.values() if backoff.until > now]
        return min(waits, default=None)
