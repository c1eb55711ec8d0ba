"""How long tasks take, and so how many may share a message."""

import asyncio
from typing import Final

from aftercommit.db import queue_statistics
from aftercommit.db.database import Fetch
from aftercommit.server.relay.grouping import tasks_per_message

REFRESH_SECONDS: Final = 3.0
"""The workers write their statistics as often."""


class TaskDurations:
    """The mean duration of a task by work queue, at most REFRESH_SECONDS old."""

    def __init__(self, *, most_tasks_per_message: int) -> None:
        self._most_tasks_per_message = most_tasks_per_message
        self._seconds: dict[str, float] = {}
        self._refreshed_at = -REFRESH_SECONDS

    async def refresh(self, fetch: Fetch) -> None:
        """Read the statistics anew when they are old."""
        now = asyncio.get_running_loop().time()
        if now - self._refreshed_at >= REFRESH_SECONDS:
            self._refreshed_at = now
            self._seconds = await queue_statistics.task_seconds(fetch)

    def share(self, work_queue: str, waiting: int) -> int:
        """How many tasks share a message while ``waiting`` wait for ``work_queue``."""
        return tasks_per_message(
            waiting, task_seconds=self._seconds.get(work_queue), largest=self._most_tasks_per_message
        )
