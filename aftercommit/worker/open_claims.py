"""The claims of which outcomes are still to be written: which rows of ``claims`` go with which statement. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from uuid import UUID


class OpenClaims:
    """Outcomes are told by the ids of their claims. One statement at a time may be under way."""

    def __init__(self) -> None:
        self._open: dict[UUID, int] = {}
        self._kept: set[UUID] = set()
        self._over: set[UUID] = set()

    def expect(self, claim_id: UUID, outcomes: int, *, keep: bool) -> None:
        """So many outcomes of a claim will come. ``keep``: its row is not ours to delete."""
        if keep:
            self._kept.add(claim_id)
        if outcomes:
            self._open[claim_id] = outcomes

    def closed_by(self, outcomes: Iterable[UUID]) -> list[UUID]:
        """The claims of which nothing is left after a statement that writes ``outcomes``."""
        return [
            *self._over,
            *(
                claim_id
                for claim_id, count in Counter(outcomes).items()
                if self._open.get(claim_id, 0) <= count and claim_id not in self._kept
            ),
        ]

    def settle(self, claim_id: UUID) -> None:
        """An outcome is in, or fenced out for good."""
        left = self._open.get(claim_id, 0) - 1
        if left > 0:
            self._open[claim_id] = left
        else:
            self._open.pop(claim_id, None)

    def left(self, closed: Sequence[UUID]) -> None:
        """A statement that was to close these left them all, since an outcome was missing. No later outcome is of those
        that are over, so they are noted for the next statement."""
        self._over.update(claim_id for claim_id in closed if claim_id not in self._open)

    @property
    def over(self) -> list[UUID]:
        """Those whose rows are to be deleted although no outcome is left to write."""
        return list(self._over)

    def deleted(self, claim_ids: Sequence[UUID]) -> None:
        """Their rows are gone."""
        self._over.difference_update(claim_ids)
