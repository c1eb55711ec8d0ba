"""Whose turn it is among the lanes that have work. Pure."""

from collections.abc import Hashable, Mapping, Set
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class QueuePicker(Generic[K]):
    """With weights, lanes share in proportion to them; without (None), an earlier lane always goes first.

    A lane without work wastes nothing and saves nothing up. The shares are kept by the smooth weighted round robin
    that nginx made known: each candidate gains its weight, the richest goes and pays the sum.
    """

    def __init__(self, weights: Mapping[K, int | None]) -> None:
        self._weights = dict(weights)
        self._credits = dict.fromkeys(self._weights, 0)
        self.weighted = all(weight is not None for weight in self._weights.values())

    def next(self, candidates: Set[K]) -> K:
        """The lane to serve. ``candidates`` are those with work, at least one of the known lanes."""
        richest: K | None = None
        total = 0
        for lane, weight in self._weights.items():
            if lane not in candidates:
                self._credits[lane] = 0
                continue
            if weight is None:
                return lane
            total += weight
            self._credits[lane] += weight
            if richest is None or self._credits[lane] > self._credits[richest]:
                richest = lane
        if richest is None:
            raise ValueError("no lane has work")
        self._credits[richest] -= total
        return richest
