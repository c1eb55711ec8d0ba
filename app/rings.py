"""What a message rings for: the one word that Postgres and RabbitMQ exchange about a task."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Ring:
    """One task in one message: claimed only while the task still waits for this very dispatch."""

    task_id: UUID
    dispatch: int
