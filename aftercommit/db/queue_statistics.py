"""``queue_statistics``: what the workers know of each work queue, a row each, written as they renew their leases."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aftercommit.db.database import Fetch


@dataclass(slots=True)
class QueueStatistics:
    """Of a work queue: every task that was sent out before ``passed_at`` (a watermark) has had its turn, and a task
    takes ``task_seconds`` (a moving mean; None while none has ended)."""

    work_queue: str
    passed_at: datetime
    task_seconds: float | None = None


_TASK_SECONDS: Final = (
    "SELECT work_queue, task_seconds FROM aftercommit.queue_statistics WHERE task_seconds IS NOT NULL"
)


async def task_seconds(fetch: Fetch) -> dict[str, float]:
    """How many seconds a task takes, by work queue; where one has ended. Reads the whole table, which is small."""
    return {row["work_queue"]: row["task_seconds"] for row in await fetch(_TASK_SECONDS)}
