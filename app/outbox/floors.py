"""Where the relay begins to read each destination of the outbox. Pure.

A row that was published stays in the index until vacuum may take it away, and a long transaction anywhere in the
database holds vacuum up. Read from its beginning, the index would make each round pass over everything published since.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

LAG_SECONDS: Final = 2.0
"""An id is given when a row is written, and the row is seen when its transaction commits: a floor follows so much
later. What comes later still is found by the lookout."""


@dataclass(slots=True)
class _Passed:
    row_id: int
    moment: float


class Floors:
    """Ids of rows, by destination; times are seconds on the caller's clock."""

    def __init__(self, destinations: Iterable[str]) -> None:
        self._floors = dict.fromkeys(destinations, 0)
        self._passed: dict[str, _Passed] = {}

    def passed(self, destination: str, row_id: int, *, now: float) -> None:
        """Everything that was seen up to ``row_id`` is published."""
        last = self._passed.setdefault(destination, _Passed(row_id, now))
        if now - last.moment >= LAG_SECONDS:
            self._floors[destination] = last.row_id
            self._passed[destination] = _Passed(row_id, now)

    def left_behind(self, destination: str, row_id: int) -> None:
        """``row_id`` is the first that waits for ``destination``, which may be new."""
        if row_id <= self._floors.setdefault(destination, 0):
            self._floors[destination] = row_id - 1
            self._passed.pop(destination, None)

    def without(self, resting: Collection[str]) -> Mapping[str, int]:
        """The id that each destination is to be read after, but for those that are ``resting``."""
        return {destination: floor for destination, floor in self._floors.items() if destination not in resting}
