"""Which outbox rows share a message. Pure."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from aftercommit.broker import message
from aftercommit.broker.message import Message
from aftercommit.core.queues import Priority
from aftercommit.core.task_ref import TaskRef
from aftercommit.db.outbox import OutboxRow

_RANKS: Final = {str(priority): rank for rank, priority in enumerate(Priority)}


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message, and the outbox rows to delete once it is confirmed; all have one destination."""

    message: Message
    destination: str
    row_ids: tuple[int, ...]


MESSAGE_SECONDS: Final = 0.1
"""The work that one message may carry: at the end of a backlog one worker works at most so much longer than another."""

LEAST_MESSAGES: Final = 8
"""A round's tasks of a work queue are split into at least so many messages, so that a few tasks still spread over the
workers."""

Share = Callable[[str, int], int]
"""How many tasks share a message, given their work queue and how many wait for it."""


def pack(rows: Sequence[OutboxRow], *, share: Share) -> list[Parcel]:
    """Pack rows into messages, in order: up to ``share`` tasks of one work queue and delay share one.

    Higher priorities come first and dead letters last: the broker takes them in this order.
    """
    shared: dict[tuple[str, int | None], list[OutboxRow]] = {}
    parcels: list[Parcel] = []
    dead_letters: list[Parcel] = []
    for row in rows:
        if row.dead_reason is not None:
            dead_letters.append(_dead_letter(row, row.dead_reason))
        else:
            shared.setdefault((row.work_queue, row.delay_seconds), []).append(row)
    for (work_queue, _), group in sorted(shared.items(), key=lambda item: _rank(item[0][0])):
        parcels.extend(_enqueue(chunk) for chunk in _chunks(group, share(work_queue, len(group))))
    return parcels + dead_letters


def tasks_per_message(waiting: int, *, task_seconds: float | None, largest: int) -> int:
    """How many of ``waiting`` tasks share a message. Slow tasks, and those whose duration nobody knows yet, go alone,
    so that work spreads over the workers."""
    if task_seconds is None:
        return 1
    by_work = MESSAGE_SECONDS / task_seconds if task_seconds > 0 else largest
    return max(1, int(min(by_work, waiting // LEAST_MESSAGES, largest)))


def _rank(work_queue: str) -> int:
    """Place in the order of publishing. A name that is no work queue's goes last; the broker returns it."""
    return _RANKS.get(work_queue.rpartition(".")[2], len(_RANKS))


def _dead_letter(row: OutboxRow, reason: str) -> Parcel:
    body = row.body if row.body is not None else message.encode(_refs([row]))
    letter = message.dead_letter(str(row.id), work_queue=row.work_queue, reason=reason, body=body)
    return Parcel(letter, row.destination, (row.id,))


def _enqueue(rows: Sequence[OutboxRow]) -> Parcel:
    first = rows[0]
    packed = message.enqueue(
        str(first.id), work_queue=first.work_queue, refs=_refs(rows), delay_seconds=first.delay_seconds
    )
    return Parcel(packed, first.destination, tuple(row.id for row in rows))


def _refs(rows: Iterable[OutboxRow]) -> list[TaskRef]:
    return [TaskRef(row.task_id, row.dispatch) for row in rows if row.task_id is not None and row.dispatch is not None]


def _chunks(rows: Sequence[OutboxRow], size: int) -> Iterator[Sequence[OutboxRow]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
