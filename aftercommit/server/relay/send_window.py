"""What the eager relay has to send: a window of messages under way, and a buffer behind it that empties by priority."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from aftercommit.broker.frames import Confirm
from aftercommit.broker.pipeline import Pipeline
from aftercommit.broker.receipt import UNANSWERED, Fate, Receipt
from aftercommit.core.errors import BrokerUnavailable
from aftercommit.server.relay.grouping import RANKS, Parcel, rank

WINDOW: Final = 256
"""Messages under way at the same time."""

KEPT_FREE: Final = 64
"""Of the window, for each higher priority: what a silent queue of a lower one cannot take up."""


@dataclass(slots=True, eq=False)
class OwnRow:
    """An outbox row of which ``parcels`` are not settled yet."""

    id: int
    destination: str
    parcels: int = 0
    failed: bool = False


@dataclass(slots=True, eq=False)
class _Sending:
    parcel: Parcel
    rows: Sequence[OwnRow]
    deadline: float


class SendWindow:
    """Tells by ``on_settled`` each row that is settled as a whole, and by ``on_trouble`` the destinations that refuse
    or return something. Times are seconds on the loop's clock."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        on_settled: Callable[[OwnRow], None],
        on_trouble: Callable[[str, str], None],
    ) -> None:
        self._pipeline = pipeline
        self._on_settled = on_settled
        self._on_trouble = on_trouble
        self._buffers: list[deque[_Sending]] = [deque() for _ in range(RANKS)]
        self._under_way: dict[str, _Sending] = {}
        self.buffered_tasks = 0
        self.totals: Counter[str] = Counter()
        """Tasks by fate since the start."""

    @property
    def is_empty(self) -> bool:
        return not self._under_way and not self.buffered_tasks

    def add(self, parcel: Parcel, rows: Sequence[OwnRow], *, deadline: float) -> None:
        for row in rows:
            row.parcels += 1
        self._buffers[rank(parcel.destination)].append(_Sending(parcel, rows, deadline))
        self.buffered_tasks += parcel.tasks

    def send(self) -> None:
        """Send from the buffer, higher priorities first, as far as the window goes."""
        for place, buffer in enumerate(self._buffers):
            room = max(WINDOW - place * KEPT_FREE, 1)
            while buffer and len(self._under_way) < room:
                sending = buffer[0]
                try:
                    sent = self._pipeline.send(sending.parcel.message)
                except BrokerUnavailable:
                    return  # it stays until its deadline
                buffer.popleft()
                self.buffered_tasks -= sending.parcel.tasks
                if isinstance(sent, Receipt):
                    self._settle(sending, sent)
                else:
                    self._under_way[sending.parcel.message.message_id] = sending
                    sent.add_done_callback(partial(self._answered, sending))

    def _answered(self, sending: _Sending, confirm: Confirm) -> None:
        message = sending.parcel.message
        receipt = self._pipeline.outcome(message, confirm)
        if self._under_way.get(message.message_id) is sending:  # not given up before
            del self._under_way[message.message_id]
            self._settle(sending, receipt)
            self.send()

    def _settle(self, sending: _Sending, receipt: Receipt) -> None:
        self.totals[receipt.fate] += sending.parcel.tasks
        if receipt.fate in (Fate.REFUSED, Fate.RETURNED):
            self._on_trouble(sending.parcel.destination, receipt.reason)
        for row in sending.rows:
            row.parcels -= 1
            row.failed |= receipt.fate is not Fate.CONFIRMED
            if not row.parcels:
                self._on_settled(row)

    def late(self, now: float) -> set[str]:
        """The destinations for which something is past its deadline."""
        oldest = (buffer[0] for buffer in self._buffers if buffer)  # deadlines grow in each
        return {
            sending.parcel.destination for sending in (*self._under_way.values(), *oldest) if sending.deadline <= now
        }

    def give_up(self) -> None:
        """Settle everything as unanswered. A confirm that still comes counts for nothing."""
        left = [*self._under_way.values(), *(sending for buffer in self._buffers for sending in buffer)]
        self._under_way.clear()
        for buffer in self._buffers:
            buffer.clear()
        self.buffered_tasks = 0
        for sending in left:
            self._settle(sending, UNANSWERED)
