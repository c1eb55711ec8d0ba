"""``queue_statistics``: what the workers tell of each work queue, a row each; written as they renew their leases."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aftercommit.db.database import Fetch


@dataclass(slots=True)
class QueueStatistics:
    """Of a work queue: tasks that were sent out before ``passed_at`` have had their turn, and a task takes
    ``task_seconds`` (a moving mean; None while none has ended)."""

    work_queue: str
    passed_at: datetime
    task_seconds: float | None = None


_TASK_SECONDS: Final = (
    "SELECT work_queue, task_seconds FROM aftercommit.queue_statistics WHERE task_seconds IS NOT NULL"
)


async def task_seconds(fetch: Fetch) -> dict[str, float]:
    """How long a task takes, by work queue; where one has ended. Reads the whole table, which is small."""
    return {row["work_queue"]: row["task_seconds"] for row in await fetch(_TASK_SECONDS)}
