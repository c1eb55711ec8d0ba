"""What a worker counts and what it learns about its work queues."""

import dataclasses
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Final

from aftercommit.core.states import Event
from aftercommit.db.claims import ClaimedTask
from aftercommit.db.queue_statistics import QueueStatistics

WEIGHT: Final = 0.05
"""Of the latest task in the mean. A single slow task shows at once, and is forgotten after some dozens."""


class Statistics:
    """``outcomes`` counts by ending, and ``refused`` ones and ``parked`` tasks; its counts only grow.

    The worker's loop writes; the heartbeat's thread reads ``queues``, which a lock makes whole.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self._queues: dict[tuple[str, str], QueueStatistics] = {}
        self._lock = threading.Lock()

    def recorded(self, ending: Event) -> None:
        self.outcomes[ending] += 1

    def refused(self) -> None:
        """An outcome was fenced out."""
        self.outcomes["refused"] += 1

    def parked(self, count: int) -> None:
        """So many tasks were left to workers that know their types."""
        self.outcomes["parked"] += count

    def claimed(self, tasks: Iterable[ClaimedTask]) -> None:
        """Tasks that were sent out before one of ``tasks``, in the same work queue, have had their turn."""
        with self._lock:
            for task in tasks:
                known = self._queues.get((task.queue, task.priority))
                if known is None:
                    key = (task.queue, task.priority)
                    self._queues[key] = QueueStatistics(f"{task.queue}.{task.priority}", task.queued_at)
                elif task.queued_at > known.passed_at:
                    known.passed_at = task.queued_at

    def ended(self, task: ClaimedTask, seconds: float) -> None:
        """An attempt of a claimed task took so long, without the time that it waited for a place."""
        with self._lock:
            known = self._queues[task.queue, task.priority]
            mean = known.task_seconds
            known.task_seconds = seconds if mean is None else mean + WEIGHT * (seconds - mean)

    def queues(self) -> list[QueueStatistics]:
        """A copy of what is known of each work queue. From any thread."""
        with self._lock:
            return [dataclasses.replace(known) for known in self._queues.values()]
