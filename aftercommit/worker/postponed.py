"""Things to try again after a while: claims and outcomes whose rows somebody held locked."""

import asyncio
from typing import Final, Generic, TypeVar

T = TypeVar("T")

FIRST_WAIT_SECONDS: Final = 0.05
LONGEST_WAIT_SECONDS: Final = 1.0


def wait_seconds(tries: int) -> float:
    """The wait after so many tries: it doubles each time, up to LONGEST_WAIT_SECONDS."""
    return min(FIRST_WAIT_SECONDS * 2.0 ** min(tries - 1, 10), LONGEST_WAIT_SECONDS)


class Postponed(Generic[T]):
    """Few things at a time: each look goes through them all."""

    def __init__(self) -> None:
        self._items: list[tuple[float, T]] = []

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: T, *, tries: int) -> None:
        """Keep an item that was tried ``tries`` times."""
        self._items.append((_now() + wait_seconds(tries), item))

    def take_due(self, most: int) -> list[T]:
        """Hand out up to ``most`` items whose wait is over."""
        if not self._items:
            return []
        now = _now()
        due = [entry for entry in self._items if entry[0] <= now][:most]
        self._items = [entry for entry in self._items if entry not in due]
        return [item for _, item in due]

    def seconds_until_next(self, most: float) -> float:
        """How long until an item is due, at most ``most``."""
        if not self._items:
            return most
        return min(max(min(at for at, _ in self._items) - _now(), 0.0), most)


def _now() -> float:
    return asyncio.get_running_loop().time()
