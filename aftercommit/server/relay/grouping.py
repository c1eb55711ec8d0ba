"""How the tasks of outbox rows are put into messages. Pure."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from aftercommit.broker import message
from aftercommit.broker.message import Message
from aftercommit.core.queues import Priority
from aftercommit.core.task_ref import TaskRef
from aftercommit.db.outbox import OutboxRow

_RANKS: Final = {str(priority): rank for rank, priority in enumerate(Priority)}
RANKS: Final = len(_RANKS) + 1
"""How many places there are in the order of publishing."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message with its tasks, and the outbox rows that they come from; all have one destination. A row may be spread
    over several parcels."""

    message: Message
    destination: str
    row_ids: tuple[int, ...]
    refs: Sequence[TaskRef]

    @property
    def tasks(self) -> int:
        """How many; a message that is not one of ours counts as one."""
        return len(self.refs) or 1


MESSAGE_SECONDS: Final = 0.1
"""The work that one message may carry: at the end of a backlog one worker works at most so much longer than another."""

LEAST_MESSAGES: Final = 8
"""A round's tasks of a work queue are split into at least so many messages, so that a few tasks still spread over the
workers."""

UNSPREAD_SECONDS: Final = 0.005
"""Less work than this is not worth spreading."""

Share = Callable[[str, int], int]
"""How many tasks share a message, given their work queue and how many wait for it."""


def pack(rows: Sequence[OutboxRow], *, share: Share) -> list[Parcel]:
    """Pack rows into messages, in order: up to ``share`` tasks of one work queue and delay share one.

    Higher priorities come first and dead letters last: the broker takes them in this order.
    """
    shared: dict[tuple[str, int | None], list[OutboxRow]] = {}
    dead_letters: list[Parcel] = []
    for row in rows:
        if row.dead_reason is not None:
            dead_letters += _dead_letters(row, row.dead_reason)
        else:
            shared.setdefault((row.work_queue, row.delay_seconds), []).append(row)
    parcels: list[Parcel] = []
    for (work_queue, _), group in sorted(shared.items(), key=lambda item: rank(item[0][0])):
        parcels += _enqueue(group, share(work_queue, sum(len(row.task_ids or ()) for row in group)))
    return parcels + dead_letters


def tasks_per_message(waiting: int, *, task_seconds: float | None, largest: int) -> int:
    """How many of ``waiting`` tasks share a message. Slow tasks, and those whose duration nobody knows yet, go alone,
    so that work spreads over the workers."""
    if task_seconds is None:
        return 1
    if task_seconds <= 0:
        return largest
    spread = max(waiting // LEAST_MESSAGES, UNSPREAD_SECONDS / task_seconds)
    return max(1, int(min(MESSAGE_SECONDS / task_seconds, spread, largest)))


def rank(work_queue: str) -> int:
    """Place in the order of publishing. A name that is no work queue's goes last; the broker returns it."""
    return _RANKS.get(work_queue.rpartition(".")[2], len(_RANKS))


def _dead_letters(row: OutboxRow, reason: str) -> Iterator[Parcel]:
    if row.body is not None:
        bodies: list[tuple[bytes, list[TaskRef]]] = [(row.body, [])]
    else:
        bodies = [(message.encode([ref]), [ref]) for ref in row.refs()]
    for number, (body, refs) in enumerate(bodies):
        letter = message.dead_letter(f"{row.id}.{number}", work_queue=row.work_queue, reason=reason, body=body)
        yield Parcel(letter, row.destination, (row.id,), refs)


def _enqueue(rows: Sequence[OutboxRow], size: int) -> Iterator[Parcel]:
    first = rows[0]
    for number, (row_ids, refs) in enumerate(_chunks(rows, size)):
        packed = message.enqueue(
            f"{first.id}.{number}", work_queue=first.work_queue, refs=refs, delay_seconds=first.delay_seconds
        )
        yield Parcel(packed, first.destination, row_ids, refs)


def _chunks(rows: Iterable[OutboxRow], size: int) -> Iterator[tuple[tuple[int, ...], list[TaskRef]]]:
    """Runs of ``size`` references, each with the ids of the rows that they stand in."""
    row_ids: list[int] = []
    refs: list[TaskRef] = []
    for row in rows:
        waiting, taken = row.refs(), 0
        while taken < len(waiting):
            more = waiting[taken : taken + size - len(refs)]
            row_ids.append(row.id)
            refs += more
            taken += len(more)
            if len(refs) == size:
                yield tuple(row_ids), refs
                row_ids, refs = [], []
    if refs:
        yield tuple(row_ids), refs
