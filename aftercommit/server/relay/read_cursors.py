"""After which row the relay reads each destination of the outbox. Pure.

The index keeps the entries of published rows until vacuum removes them, and a long transaction anywhere in the database
holds vacuum up. A round that began at the index's beginning would read past everything published since.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

LAG_SECONDS: Final = 2.0
"""A row gets its id when it is written, and is seen when its transaction commits. So a cursor follows at least this
much later. A row that commits later still is a straggler: the sweep moves it to the end."""


@dataclass(slots=True)
class _Passed:
    row_id: int
    moment: float


class ReadCursors:
    """An id by destination: rows above it are read. Times are seconds on the caller's clock."""

    def __init__(self, cursors: Mapping[str, int] | None = None) -> None:
        self._cursors = dict(cursors or {})
        self._passed: dict[str, _Passed] = {}

    def begin(self, destinations: Iterable[str], row_id: int) -> None:
        """Read those of ``destinations`` that are new after ``row_id``."""
        for destination in destinations:
            self._cursors.setdefault(destination, row_id)

    def cap(self, row_id: int) -> None:
        """No id above ``row_id`` was given yet. A cursor above it comes from before a failover that lost the last
        transactions, and goes back."""
        for destination, cursor in self._cursors.items():
            if cursor > row_id:
                self._cursors[destination] = row_id
                self._passed.pop(destination, None)

    def passed(self, destination: str, row_id: int, *, moment: float) -> None:
        """Every row that was visible at ``moment``, up to ``row_id``, is published and deleted."""
        last = self._passed.setdefault(destination, _Passed(row_id, moment))
        if moment - last.moment >= LAG_SECONDS:
            # The smaller of both: more rows may have come in between than one round took.
            self._cursors[destination] = min(last.row_id, row_id)
            self._passed[destination] = _Passed(row_id, moment)

    def all(self) -> Mapping[str, int]:
        """The id that each destination is read after."""
        return dict(self._cursors)

    def without(self, resting: Collection[str]) -> Mapping[str, int]:
        """As ``all``, without the destinations in ``resting``."""
        return {destination: cursor for destination, cursor in self._cursors.items() if destination not in resting}
