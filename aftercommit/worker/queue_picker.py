"""Which work queue is served next, among those that have work: in strict order or by weight. Pure."""

from collections.abc import Hashable, Mapping, Set
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class QueuePicker(Generic[K]):
    """With weights, queues share in proportion to them; without (None), an earlier queue always goes first.

    A queue without work wastes no turn and saves none up. The shares are kept by smooth weighted round robin, as in
    nginx: each candidate gains its weight, the richest goes and pays the sum.
    """

    def __init__(self, weights: Mapping[K, int | None]) -> None:
        self._weights = dict(weights)
        self._credits = dict.fromkeys(self._weights, 0)
        self.weighted = all(weight is not None for weight in self._weights.values())

    @property
    def keys(self) -> Set[K]:
        return self._weights.keys()

    def next(self, candidates: Set[K]) -> K:
        """The queue to serve. ``candidates`` are those with work, at least one of the known queues."""
        richest: K | None = None
        total = 0
        for queue, weight in self._weights.items():
            if queue not in candidates:
                self._credits[queue] = 0
                continue
            if weight is None:
                return queue
            total += weight
            self._credits[queue] += weight
            if richest is None or self._credits[queue] > self._credits[richest]:
                richest = queue
        if richest is None:
            raise ValueError("no queue has work")
        self._credits[richest] -= total
        return richest
