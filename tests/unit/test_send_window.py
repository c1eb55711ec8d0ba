"""The eager relay's window: what goes out, in which order, and what becomes of the rows."""

import asyncio
from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

import pytest

from aftercommit.broker import message
from aftercommit.broker.frames import Confirm
from aftercommit.broker.message import Message
from aftercommit.broker.pipeline import Pipeline
from aftercommit.broker.receipt import CONFIRMED, FULL, Fate, Receipt
from aftercommit.core.errors import BrokerUnavailable
from aftercommit.core.task_ref import TaskRef
from aftercommit.server.relay import send_window
from aftercommit.server.relay.grouping import Parcel
from aftercommit.server.relay.send_window import OwnRow, SendWindow


@dataclass
class Recorded:
    """Takes messages until it is closed, and settles them as it is told."""

    sent: dict[str, Confirm] = field(default_factory=dict)
    receipts: dict[str, Receipt] = field(default_factory=dict)
    is_open: bool = True

    def send(self, sent: Message) -> Confirm | Receipt:
        if not self.is_open:
            raise BrokerUnavailable("closed")
        future: Confirm = asyncio.get_running_loop().create_future()
        self.sent[sent.message_id] = future
        return future

    def outcome(self, sent: Message, confirm: Confirm) -> Receipt:
        assert confirm.done()
        return self.receipts[sent.message_id]

    async def answer(self, message_id: str, receipt: Receipt) -> None:
        self.receipts[message_id] = receipt
        self.sent[message_id].set_result(None)
        await asyncio.sleep(0)


@dataclass
class Bench:
    pipeline: Recorded
    window: SendWindow
    settled: list[tuple[int, bool]]
    troubles: list[tuple[str, str]]

    def add(self, name: str, *rows: OwnRow, work_queue: str = "tasks.high") -> None:
        refs = [TaskRef(UUID(int=row.id), 1) for row in rows]
        packed = message.enqueue(name, work_queue=work_queue, refs=refs)
        self.window.add(Parcel(packed, work_queue, tuple(row.id for row in rows), refs), rows, deadline=10.0)


@pytest.fixture
def bench() -> Bench:
    pipeline = Recorded()
    settled: list[tuple[int, bool]] = []
    troubles: list[tuple[str, str]] = []
    window = SendWindow(
        cast("Pipeline", pipeline),
        on_settled=lambda row: settled.append((row.id, row.failed)),
        on_trouble=lambda destination, reason: troubles.append((destination, reason)),
    )
    return Bench(pipeline, window, settled, troubles)


async def test_high_task_overtakes_what_waits_in_the_buffer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_window, "WINDOW", 2)
    monkeypatch.setattr(send_window, "KEPT_FREE", 0)
    for number in range(5):
        bench.add(f"low {number}", OwnRow(number, "tasks.high"), work_queue="tasks.low")
    bench.window.send()
    bench.add("high", OwnRow(9, "tasks.high"))
    bench.window.send()
    assert list(bench.pipeline.sent) == ["low 0", "low 1"]
    await bench.pipeline.answer("low 0", CONFIRMED)
    assert list(bench.pipeline.sent)[-1] == "high"
    assert bench.window.buffered_tasks == 3


async def test_silent_queue_of_low_priority_leaves_room_for_higher_ones(bench: Bench) -> None:
    for number in range(send_window.WINDOW):
        bench.add(f"low {number}", OwnRow(number, "tasks.low"), work_queue="tasks.low")
    bench.window.send()
    assert len(bench.pipeline.sent) == send_window.WINDOW - 2 * send_window.KEPT_FREE
    bench.add("high", OwnRow(999, "tasks.high"))
    bench.window.send()
    assert list(bench.pipeline.sent)[-1] == "high"


async def test_row_is_settled_with_its_last_message_and_failed_when_one_of_them_was(bench: Bench) -> None:
    row, other = OwnRow(1, "tasks.high"), OwnRow(2, "tasks.high")
    bench.add("a", row)
    bench.add("b", row, other)
    bench.window.send()
    await bench.pipeline.answer("a", CONFIRMED)
    assert bench.settled == []
    await bench.pipeline.answer("b", FULL)
    assert bench.settled == [(1, True), (2, True)]
    assert bench.troubles == [("tasks.high", FULL.reason)]
    assert bench.window.totals == {Fate.CONFIRMED: 1, Fate.REFUSED: 2}
    assert bench.window.is_empty


async def test_what_is_given_up_is_settled_once_although_its_confirm_comes_later(bench: Bench) -> None:
    bench.add("a", OwnRow(1, "tasks.high"))
    bench.window.send()
    bench.pipeline.is_open = False
    bench.add("b", OwnRow(2, "tasks.high"))
    bench.window.send()
    bench.window.give_up()
    assert bench.settled == [(1, True), (2, True)]
    await bench.pipeline.answer("a", CONFIRMED)
    assert len(bench.settled) == 2
    assert bench.window.is_empty


async def test_deadline_is_that_of_the_oldest_wherever_it_is(bench: Bench) -> None:
    assert bench.window.late(100.0) == set()
    bench.pipeline.is_open = False
    bench.add("a", OwnRow(1, "tasks.high"))
    assert (bench.window.late(9.0), bench.window.late(10.0)) == (set(), {"tasks.high"})
    bench.pipeline.is_open = True
    bench.window.send()
    assert (bench.window.late(9.0), bench.window.late(10.0)) == (set(), {"tasks.high"})
