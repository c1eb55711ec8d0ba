"""What may be set of a queue while everything runs: what it takes, how it is served, its limits. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aftercommit.core.queues import Priority

DEFAULT_WEIGHTS: Final = {Priority.HIGH: 6, Priority.MEDIUM: 3, Priority.LOW: 1}


class Ordering(StrEnum):
    """How a worker serves the priorities of a queue that it names without one."""

    STRICT = "strict"
    WEIGHTED = "weighted"


class DeleteMode(StrEnum):
    """What becomes of a queue's unfinished tasks when it is deleted."""

    REFUSE = "refuse"
    MOVE = "move"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """None: no limit, or what else decides. ``weights`` are those of high, medium and low; ``retry`` is JSON text.

    ``paused``: it takes tasks and starts none. ``deleting``: it takes none and starts none.
    """

    name: str
    description: str | None = None
    priorities: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None
    max_waiting: int | None = None
    max_payload_bytes: int | None = None
    max_retries: int | None = None
    retry: str | None = None
    timeout_seconds: float | None = None
    ordering: Ordering = Ordering.STRICT
    weights: tuple[int, int, int] | None = None
    max_running: int | None = None
    rate_per_second: float | None = None
    burst: int | None = None
    paused: bool = False
    deleting: bool = False

    @property
    def takes_anything(self) -> bool:
        """Whether a submit needs nothing of it: no check, and no default."""
        return not self.deleting and all(
            each is None
            for each in (
                self.priorities,
                self.types,
                self.max_payload_bytes,
                self.max_retries,
                self.retry,
                self.timeout_seconds,
            )
        )

    @property
    def is_limited(self) -> bool:
        """Whether workers must ask before they start a task of it."""
        return self.max_running is not None or self.rate_per_second is not None

    def weight(self, priority: Priority) -> int:
        """The share of a priority, where the queue is weighted."""
        if self.weights is None:
            return DEFAULT_WEIGHTS[priority]
        return self.weights[list(Priority).index(priority)]
