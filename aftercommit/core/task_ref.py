"""What a message refs for: the one word that Postgres and RabbitMQ exchange about a task."""

from typing import Final, NamedTuple
from uuid import UUID

MAX_REFS: Final = 1_000
"""In one message."""


class TaskRef(NamedTuple):
    """One task in one message: claimed only while the task still waits for this very dispatch."""

    task_id: UUID
    dispatch: int
