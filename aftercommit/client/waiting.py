"""Waiting for tasks in requests whose answer the service holds back."""

import time
from typing import Any, Final

from aftercommit.client.call import Call
from aftercommit.client.errors import NotFinished, TaskNotSucceeded
from aftercommit.client.results import Task
from aftercommit.client.task_calls import TaskId, get_task

HELD_SECONDS: Final = 25.0
"""Of one request: less than proxies let a connection rest. The API takes up to 60."""


class Waiting:
    """``timeout`` in seconds from now; None: as long as it takes."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._ends_at = None if timeout is None else time.monotonic() + timeout

    @property
    def seconds_left(self) -> float | None:
        return None if self._ends_at is None else max(self._ends_at - time.monotonic(), 0.0)

    def call(self, task: TaskId) -> Call[Task]:
        left = self.seconds_left
        return get_task(task, wait_seconds=HELD_SECONDS if left is None else round(min(HELD_SECONDS, left), 3))

    def is_over(self, task: Task) -> bool:
        """Whether ``task``, as it was found, need not be waited for any more. Raises NotFinished when time is up."""
        if not task.is_final and self.seconds_left == 0.0:
            raise NotFinished(f"task {task.id} is {task.status} after {self._timeout:g} s", task)
        return task.is_final


def result_of(task: Task) -> Any:
    """What the handler of a task returned that has ended. Raises TaskNotSucceeded."""
    if not task.succeeded:
        why = f": {task.error.type}: {task.error.message}" if task.error is not None else ""
        raise TaskNotSucceeded(f"task {task.id} is {task.status}{why}", task)
    return task.result
