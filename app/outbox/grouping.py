"""Which rows share a message. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from app.broker import message
from app.broker.message import Message
from app.db.outbox import OutboxRow
from app.queues import Priority
from app.rings import Ring

_RANKS: Final = {str(priority): rank for rank, priority in enumerate(Priority)}


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message and the outbox rows that are done with once it is confirmed; all of one destination."""

    message: Message
    destination: str
    row_ids: tuple[int, ...]


def pack(rows: Sequence[OutboxRow], *, rings_per_message: int = 1) -> list[Parcel]:
    """Pack rows into messages: up to ``rings_per_message`` rings of one work queue and delay share one, in order.

    Higher priorities come first, so that theirs go out first.
    """
    shared: dict[tuple[str, int | None], list[OutboxRow]] = {}
    parcels: list[Parcel] = []
    dead_letters: list[Parcel] = []
    for row in rows:
        if row.dead_reason is not None:
            dead_letters.append(_dead_letter(row, row.dead_reason))
        else:
            shared.setdefault((row.work_queue, row.delay_seconds), []).append(row)
    for _, group in sorted(shared.items(), key=lambda item: _rank(item[0][0])):
        parcels.extend(_ring(chunk) for chunk in _chunks(group, rings_per_message))
    return parcels + dead_letters


def _rank(work_queue: str) -> int:
    """Place in the order of publishing; a name that nobody checked goes last and is returned by the broker."""
    return _RANKS.get(work_queue.rpartition(".")[2], len(_RANKS))


def _dead_letter(row: OutboxRow, reason: str) -> Parcel:
    body = row.body if row.body is not None else message.encode(_rings([row]))
    letter = message.dead_letter(str(row.id), work_queue=row.work_queue, reason=reason, body=body)
    return Parcel(letter, row.destination, (row.id,))


def _ring(rows: Sequence[OutboxRow]) -> Parcel:
    first = rows[0]
    packed = message.ring(
        str(first.id), work_queue=first.work_queue, rings=_rings(rows), delay_seconds=first.delay_seconds
    )
    return Parcel(packed, first.destination, tuple(row.id for row in rows))


def _rings(rows: Iterable[OutboxRow]) -> list[Ring]:
    return [Ring(row.task_id, row.dispatch) for row in rows if row.task_id is not None and row.dispatch is not None]


def _chunks(rows: Sequence[OutboxRow], size: int) -> Iterator[Sequence[OutboxRow]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
