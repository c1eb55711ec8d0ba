"""Queue names: a queue is a lane, a priority its urgency, together they name a RabbitMQ work queue."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from aftercommit.task_request import QUEUE_PATTERN

ANY: Final = "*"

_QUEUE = re.compile(QUEUE_PATTERN)


class Priority(StrEnum):
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class QueueType(StrEnum):
    """What RabbitMQ keeps work queues and retry queues as."""

    QUORUM = "quorum"
    CLASSIC = "classic"


@dataclass(frozen=True, slots=True)
class WorkQueue:
    """One RabbitMQ work queue, ``<queue>.<priority>``."""

    queue: str
    priority: Priority

    def __str__(self) -> str:
        return f"{self.queue}.{self.priority}"

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read ``tasks.high``. Raises ValueError with a sentence that says what is wrong."""
        queue, dot, priority = name.partition(".")
        if not dot or priority not in list(Priority):
            raise ValueError(f"{name!r} is not a work queue: write <queue>.<{'|'.join(Priority)}>, like tasks.high")
        return cls(parse_queue(queue), Priority(priority))


@dataclass(frozen=True, slots=True)
class WorkQueuePattern:
    """Work queues by name: ``emails.high``, ``emails`` (all its priorities), ``*.high``, or ``*``. None: any."""

    queue: str | None
    priority: Priority | None

    def __str__(self) -> str:
        if self.priority is None:
            return self.queue or ANY
        return f"{self.queue or ANY}.{self.priority}"

    def matches(self, work_queue: WorkQueue) -> bool:
        return self.queue in (None, work_queue.queue) and self.priority in (None, work_queue.priority)

    @property
    def precision(self) -> int:
        """Of several patterns that match, the one with the highest goes."""
        return (self.queue is not None) * 2 + (self.priority is not None)

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read ``emails.high``, ``emails``, ``emails.*``, ``*.high`` or ``*``. Raises ValueError with a sentence that
        says what is wrong."""
        queue, dot, priority = name.partition(".")
        if dot and priority not in (ANY, *Priority):
            raise ValueError(
                f"{name!r} names no work queues: write <queue>.<{'|'.join(Priority)}>, <queue> for all its priorities, "
                f"*.<priority>, or *"
            )
        return cls(
            None if queue == ANY else parse_queue(queue),
            Priority(priority) if dot and priority != ANY else None,
        )


def parse_queue(name: str) -> str:
    """Check a queue's name. Raises ValueError with a sentence that says what is wrong."""
    if not _QUEUE.fullmatch(name):
        raise ValueError(f"{name!r} is not a queue name: a small letter, then up to 62 of a-z, 0-9, _ and -")
    return name
