"""Destinations that refused a message rest for a while, each longer after each refusal in a row. Pure."""

from dataclasses import dataclass
from typing import Final

FIRST_SECONDS: Final = 0.2
LONGEST_SECONDS: Final = 10.0


@dataclass(slots=True)
class _Rest:
    seconds: float
    until: float


class Backoffs:
    """Times are seconds on the caller's clock. Only destinations in trouble are kept."""

    def __init__(self) -> None:
        self._rests: dict[str, _Rest] = {}

    def refused(self, destination: str, *, now: float) -> None:
        last = self._rests.get(destination)
        seconds = min(last.seconds * 2, LONGEST_SECONDS) if last else FIRST_SECONDS
        self._rests[destination] = _Rest(seconds, now + seconds)

    def accepted(self, destination: str) -> None:
        self._rests.pop(destination, None)

    def resting(self, *, now: float) -> list[str]:
        """The destinations to leave alone for now."""
        return [destination for destination, rest in self._rests.items() if rest.until > now]

    def seconds_until_next(self, *, now: float) -> float | None:
        """How long until a resting destination may be tried again; None when none rests."""
        waits = [rest.until - now for rest in self._rests.values() if rest.until > now]
        return min(waits, default=None)
