"""A reference to a task: all that RabbitMQ ever knows about it."""

from typing import Final, NamedTuple
from uuid import UUID

MAX_REFS: Final = 1_000
"""In one message."""


class TaskRef(NamedTuple):
    """One task in one message. A worker claims it only while the task still waits for this dispatch."""

    task_id: UUID
    dispatch: int
