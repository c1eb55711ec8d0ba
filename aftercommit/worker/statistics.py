"""What a worker learns about its work queues, and tells with each renewal of its lease."""

from typing import Final

from aftercommit.db.claims import ClaimedTask
from aftercommit.db.queue_statistics import QueueStatistics

WEIGHT: Final = 0.05
"""Of the latest task in the mean. A single slow task shows at once, and is forgotten after some dozens."""


class Statistics:
    """Written by the worker's loop, read by the lease's thread."""

    def __init__(self) -> None:
        self._marks: dict[tuple[str, str], QueueStatistics] = {}

    def claimed(self, task: ClaimedTask) -> None:
        """Up to when this task was sent out, its work queue has been passed through."""
        key = (task.queue, task.priority)
        mark = self._marks.get(key)
        if mark is None:
            self._marks[key] = QueueStatistics(f"{task.queue}.{task.priority}", task.queued_at)
        elif task.queued_at > mark.passed_at:
            mark.passed_at = task.queued_at

    def ended(self, task: ClaimedTask, seconds: float) -> None:
        """An attempt of a claimed task took so long."""
        mark = self._marks[task.queue, task.priority]
        mark.task_seconds = (
            seconds if mark.task_seconds is None else mark.task_seconds + WEIGHT * (seconds - mark.task_seconds)
        )

    def all(self) -> list[QueueStatistics]:
        return list(self._marks.values())
