"""Whose turn it is among the work queues that a worker serves. Pure.

WORKER_QUEUES names patterns, in strict order or with weights. Within a pattern the priorities of a queue go in strict
order, or by weight where the queue is ``weighted``; queues of one rank take turns.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set

from aftercommit.core.queue_options import Ordering, QueueOptions
from aftercommit.core.queues import Priority, WorkQueue, WorkQueuePattern
from aftercommit.worker.queue_picker import QueuePicker


class Turns:
    def __init__(self, shares: Sequence[tuple[WorkQueuePattern, int | None]]) -> None:
        self._patterns = QueuePicker(dict(shares))
        self._by_precision = sorted((pattern for pattern, _ in shares), key=lambda each: -each.precision)
        self._pattern_of: dict[WorkQueue, WorkQueuePattern] = {}
        self._ranks: dict[WorkQueuePattern, list[QueuePicker[WorkQueue]]] = {}
        self._alone: frozenset[WorkQueue] = frozenset()

    @property
    def are_shared(self) -> bool:
        """Whether some work queues take turns with others, instead of going before or after them."""
        return self._patterns.weighted or len(self._alone) < len(self._pattern_of)

    def arrange(self, queues: Mapping[str, QueueOptions]) -> tuple[WorkQueue, ...]:
        """Take in which queues there are; the work queues of them that are served, the most urgent first."""
        work_queues = [WorkQueue(name, priority) for name in queues for priority in Priority]
        pattern_of = {each: pattern for each in work_queues if (pattern := self._pattern(each)) is not None}
        ranks: dict[WorkQueuePattern, dict[int, dict[WorkQueue, int]]] = defaultdict(lambda: defaultdict(dict))
        for work_queue, pattern in pattern_of.items():
            rank, weight = _place(work_queue, pattern, queues[work_queue.queue])
            ranks[pattern][rank][work_queue] = weight
        self._pattern_of = pattern_of
        self._ranks = {
            pattern: [QueuePicker(dict(of_rank[rank])) for rank in sorted(of_rank)]
            for pattern, of_rank in ranks.items()
        }
        self._alone = frozenset(
            work_queue
            for of_rank in ranks.values()
            for rank in of_rank.values()
            if len(rank) == 1
            for work_queue in rank
        )
        return tuple(pattern_of)

    def missing(self) -> list[WorkQueuePattern]:
        """The patterns that match no queue there is."""
        return [pattern for pattern in self._by_precision if pattern not in self._ranks]

    def is_alone(self, work_queue: WorkQueue) -> bool:
        """Whether no other queue has a turn before this one is empty."""
        return not self._patterns.weighted and work_queue in self._alone

    def next(self, candidates: Set[WorkQueue]) -> WorkQueue:
        """The work queue to serve. ``candidates`` are those with work, at least one of those that are served."""
        if len(candidates) == 1:
            (only,) = candidates
            return only
        pattern = self._patterns.next({self._pattern_of[each] for each in candidates})
        for rank in self._ranks[pattern]:
            if members := candidates & rank.keys:
                return rank.next(members)
        raise ValueError("no queue has work")

    def _pattern(self, work_queue: WorkQueue) -> WorkQueuePattern | None:
        return next((each for each in self._by_precision if each.matches(work_queue)), None)


def _place(work_queue: WorkQueue, pattern: WorkQueuePattern, options: QueueOptions) -> tuple[int, int]:
    """The rank within the pattern, and the weight within the rank."""
    if pattern.priority is not None:
        return 0, 1
    if options.ordering is Ordering.WEIGHTED:
        return 0, options.weight(work_queue.priority)
    return list(Priority).index(work_queue.priority), 1
