"""Where the relay begins to read each destination of the outbox. Pure.

A row that was published stays in the index until vacuum may take it away, and a long transaction anywhere in the
database holds vacuum up. Read from its beginning, the index would make each round pass over everything published since.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

LAG_SECONDS: Final = 2.0
"""An id is given when a row is written, and the row is seen when its transaction commits: a floor follows at least so
much later. What comes later still is moved to the end by the lookout."""


@dataclass(slots=True)
class _Passed:
    row_id: int
    moment: float


class Floors:
    """Ids of rows, by destination. Times are seconds on the caller's clock."""

    def __init__(self, floors: Mapping[str, int] | None = None) -> None:
        self._floors = dict(floors or {})
        self._passed: dict[str, _Passed] = {}

    def begin(self, destinations: Iterable[str], row_id: int) -> None:
        """Read those of ``destinations`` that are new after ``row_id``."""
        for destination in destinations:
            self._floors.setdefault(destination, row_id)

    def cap(self, row_id: int) -> None:
        """No id above ``row_id`` was given yet. Floors above it are of a database that lost its last transactions."""
        for destination, floor in self._floors.items():
            if floor > row_id:
                self._floors[destination] = row_id
                self._passed.pop(destination, None)

    def passed(self, destination: str, row_id: int, *, moment: float) -> None:
        """Everything that was seen at ``moment``, up to ``row_id``, is published."""
        last = self._passed.setdefault(destination, _Passed(row_id, moment))
        if moment - last.moment >= LAG_SECONDS:
            # Less than last time: of what came in between there may be more than one round took.
            self._floors[destination] = min(last.row_id, row_id)
            self._passed[destination] = _Passed(row_id, moment)

    def all(self) -> Mapping[str, int]:
        """The id that each destination is read after."""
        return dict(self._floors)

    def without(self, resting: Collection[str]) -> Mapping[str, int]:
        """The same, but for those that are ``resting``."""
        return {destination: floor for destination, floor in self._floors.items() if destination not in resting}
