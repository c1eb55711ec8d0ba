"""Where the relay begins to read each destination of the outbox. Pure.

A row that was published stays in the index until vacuum may take it away, and a long transaction anywhere in the
database holds vacuum up. Read from its beginning, the index would make each round pass over everything published since.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

LAG_SECONDS: Final = 2.0
"""An id is given when a row is written, and the row is seen when its transaction commits: a cursor follows at least so
much later. What comes later still is moved to the end by the straggler_sweep."""


@dataclass(slots=True)
class _Passed:
    row_id: int
    moment: float


class ReadCursors:
    """Ids of rows, by destination. Times are seconds on the caller's clock."""

    def __init__(self, cursors: Mapping[str, int] | None = None) -> None:
        self._cursors = dict(cursors or {})
        self._passed: dict[str, _Passed] = {}

    def begin(self, destinations: Iterable[str], row_id: int) -> None:
        """Read those of ``destinations`` that are new after ``row_id``."""
        for destination in destinations:
            self._cursors.setdefault(destination, row_id)

    def cap(self, row_id: int) -> None:
        """No id above ``row_id`` was given yet: a cursor above it is of a database that lost its last transactions."""
        for destination, cursor in self._cursors.items():
            if cursor > row_id:
                self._cursors[destination] = row_id
                self._passed.pop(destination, None)

    def passed(self, destination: str, row_id: int, *, moment: float) -> None:
        """Everything that was seen at ``moment``, up to ``row_id``, is published."""
        last = self._passed.setdefault(destination, _Passed(row_id, moment))
        if moment - last.moment >= LAG_SECONDS:
            # Less than last time: of what came in between there may be more than one round took.
            self._cursors[destination] = min(last.row_id, row_id)
            self._passed[destination] = _Passed(row_id, moment)

    def all(self) -> Mapping[str, int]:
        """The id that each destination is read after."""
        return dict(self._cursors)

    def without(self, resting: Collection[str]) -> Mapping[str, int]:
        """The same, but for those that are ``resting``."""
        return {destination: cursor for destination, cursor in self._cursors.items() if destination not in resting}
