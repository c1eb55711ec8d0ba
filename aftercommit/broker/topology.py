"""The names and arguments of every queue and exchange. ``declaration.py`` alone declares them; everybody else looks
them up passively. Pure.

Structure stands in the arguments, and its parameter in the name: a delay's queue has the delay in its name. Tuning
(the delivery limit, lengths) is given at the first declaration only. An operator changes it by policy.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aftercommit.core.queues import Priority, QueueType, WorkQueue

DEAD_LETTERS: Final = "tasks.dlq"
MAX_DEAD_LETTERS: Final = 100_000
"""The oldest give way: Postgres keeps the truth about failed tasks."""

MAX_DELIVERIES: Final = 1_000
"""Each message that comes back counts: on 3.10 and 4.0 one that is handed back, on 4.3 only that of a lost channel.
4.x would stop at 20."""

TUNING: Final = frozenset(
    {
        "x-delivery-limit",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-in-memory-length",
        "x-max-in-memory-bytes",
        "x-consumer-timeout",
        "x-queue-mode",
        "x-queue-version",
        "x-queue-leader-locator",
        "x-quorum-initial-group-size",
        "x-quorum-target-group-size",
    }
)
"""Arguments that change how well a queue works, not what it does with a message."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue. ``exchange`` is the durable topic exchange that it is bound to by ``routing_key``.
    ``work_queue``: the one that it is, if it is one."""

    name: str
    structure: Mapping[str, Any]
    tuning: Mapping[str, Any] = field(default_factory=dict)
    exchange: str | None = None
    routing_key: str = ""
    work_queue: WorkQueue | None = None


def queues(work_queues: Iterable[WorkQueue], delays_seconds: Iterable[int], *, queue_type: QueueType) -> list[Queue]:
    """Every queue there should be; work queues and retry queues of ``queue_type``."""
    return [
        _dead_letters(),
        *(_work_queue(work_queue, queue_type) for work_queue in work_queues),
        *(_retry_queue(priority, delay, queue_type) for delay in delays_seconds for priority in Priority),
    ]


def retry_exchange(delay_seconds: int) -> str:
    return f"tasks.retry.{delay_seconds}"


def retry_queue(priority: Priority, delay_seconds: int) -> str:
    return f"tasks.retry.{priority}.{delay_seconds}"


def _dead_letters() -> Queue:
    # A quorum queue whatever the others are: its messages are few, and no reconciler sends them again.
    structure = {"x-queue-type": str(QueueType.QUORUM), "x-overflow": "drop-head"}
    return Queue(DEAD_LETTERS, structure, {"x-max-length": MAX_DEAD_LETTERS})


def _work_queue(work_queue: WorkQueue, queue_type: QueueType) -> Queue:
    structure = {
        "x-queue-type": str(queue_type),
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": DEAD_LETTERS,
    }
    # A classic queue knows no delivery limit.
    tuning = {"x-delivery-limit": MAX_DELIVERIES} if queue_type is QueueType.QUORUM else {}
    return Queue(str(work_queue), structure, tuning, work_queue=work_queue)


def _retry_queue(priority: Priority, delay_seconds: int, queue_type: QueueType) -> Queue:
    structure = {
        "x-queue-type": str(queue_type),
        "x-message-ttl": delay_seconds * 1000,
        # Without a dead-letter routing key an expired message keeps its own: the work queue it is for.
        "x-dead-letter-exchange": "",
        "x-overflow": "reject-publish",
    }
    if queue_type is QueueType.QUORUM:
        # A classic queue knows at-most-once only, and refuses the argument: the reconciler finds what that loses.
        structure["x-dead-letter-strategy"] = "at-least-once"
    name = retry_queue(priority, delay_seconds)
    return Queue(name, structure, exchange=retry_exchange(delay_seconds), routing_key=f"*.{priority}")
