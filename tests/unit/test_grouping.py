from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftercommit.broker import message
from aftercommit.db.outbox import OutboxRow
from aftercommit.server.relay.grouping import pack, tasks_per_message


def row(number: int, **changes: Any) -> OutboxRow:
    fields: dict[str, Any] = {
        "id": number,
        "destination": "tasks.high",
        "work_queue": "tasks.high",
        "delay_seconds": None,
        "task_ids": [UUID(int=number)],
        "dispatches": [1],
        "dead_reason": None,
        "body": None,
    }
    return OutboxRow(**fields | changes)


def many(number: int, size: int, **changes: Any) -> OutboxRow:
    ids = [UUID(int=number * 1_000 + index) for index in range(size)]
    return row(number, task_ids=ids, dispatches=[1] * size, **changes)


SIZES = st.integers(1, 7)


def test_each_row_has_its_message_when_messages_are_not_shared() -> None:
    parcels = pack([row(1), row(2)], share=lambda *_: 1)
    assert [parcel.row_ids for parcel in parcels] == [(1,), (2,)]


def test_rows_share_a_message_in_order_when_they_are_for_one_work_queue() -> None:
    parcels = pack([row(number) for number in range(1, 8)], share=lambda *_: 3)
    assert [parcel.row_ids for parcel in parcels] == [(1, 2, 3), (4, 5, 6), (7,)]
    assert [ref.task_id.int for ref in message.decode(parcels[0].message.body)] == [1, 2, 3]


def test_rows_stay_apart_when_work_queue_or_delay_differ() -> None:
    rows = [
        row(1),
        row(2, work_queue="tasks.low", destination="tasks.low"),
        row(3, delay_seconds=5, destination="tasks.retry.high.5"),
        row(4),
    ]
    parcels = pack(rows, share=lambda *_: 10)
    assert {(parcel.destination, parcel.row_ids) for parcel in parcels} == {
        ("tasks.high", (1, 4)),
        ("tasks.low", (2,)),
        ("tasks.retry.high.5", (3,)),
    }


def test_higher_priorities_come_first_and_dead_letters_last() -> None:
    rows = [
        row(1, dead_reason="failed", destination="tasks.dlq"),
        row(2, work_queue="tasks.low", destination="tasks.low"),
        row(3, work_queue="emails.medium", destination="emails.medium"),
        row(4, work_queue="emails.high", destination="emails.high"),
        row(5),
    ]
    assert [parcel.row_ids for parcel in pack(rows, share=lambda *_: 1)] == [(4,), (5,), (3,), (2,), (1,)]


def test_dead_letters_are_never_shared_and_keep_a_foreign_body() -> None:
    rows = [
        row(1, dead_reason="failed", destination="tasks.dlq"),
        row(2, dead_reason="malformed", destination="tasks.dlq", task_ids=None, dispatches=None, body=b"\xff"),
    ]
    own, foreign = pack(rows, share=lambda *_: 10)
    assert own.message.headers[message.REASON_HEADER] == "failed"
    assert [ref.task_id.int for ref in message.decode(own.message.body)] == [1]
    assert (foreign.message.body, foreign.row_ids, foreign.destination) == (b"\xff", (2,), "tasks.dlq")


def test_row_of_many_tasks_is_split_and_shares_its_last_message_with_the_next_row() -> None:
    rows = [many(1, 5), many(2, 2)]
    parcels = pack(rows, share=lambda *_: 3)
    assert [parcel.row_ids for parcel in parcels] == [(1,), (1, 2), (2,)]
    assert [len(parcel.refs) for parcel in parcels] == [3, 3, 1]


def test_share_is_asked_for_with_the_number_of_tasks_that_wait() -> None:
    asked: list[tuple[str, int]] = []

    def share(work_queue: str, waiting: int) -> int:
        asked.append((work_queue, waiting))
        return 100

    pack([many(1, 5), many(2, 2)], share=share)
    assert asked == [("tasks.high", 7)]


@given(
    st.lists(st.tuples(st.sampled_from(["a.high", "b.low"]), st.sampled_from([None, 5]), st.booleans(), SIZES)),
    st.integers(1, 5),
)
def test_every_task_is_in_exactly_one_parcel_that_names_its_row(
    kinds: list[tuple[str, int | None, bool, int]], share: int
) -> None:
    rows = [
        many(number, size, work_queue=work_queue, delay_seconds=delay, dead_reason="dead" if dead else None)
        for number, (work_queue, delay, dead, size) in enumerate(kinds)
    ]
    parcels = pack(rows, share=lambda *_: share)
    packed = [ref for parcel in parcels for ref in parcel.refs]
    assert sorted(packed) == sorted(ref for row in rows for ref in row.refs())
    assert all(len(parcel.refs) <= share for parcel in parcels)
    rows_of = {ref: row.id for row in rows for ref in row.refs()}
    for parcel in parcels:
        assert set(parcel.row_ids) == {rows_of[ref] for ref in parcel.refs}
        assert message.decode(parcel.message.body) == parcel.refs
    assert len({parcel.message.message_id for parcel in parcels}) == len(parcels)


@pytest.mark.parametrize(
    ("waiting", "task_seconds", "refs"),
    [
        (10_000, None, 1),
        (10_000, 0.0, 100),
        (10_000, 0.001, 100),
        (10_000, 0.01, 10),
        (10_000, 0.08, 1),
        (10_000, 3600.0, 1),
        (1, 0.0, 100),
        (9, 0.001, 5),
        (80, 0.001, 10),
        (9, 0.01, 1),
        (80, 0.01, 10),
    ],
)
def test_tasks_share_a_message_when_tasks_are_short_and_many(
    waiting: int, task_seconds: float | None, refs: int
) -> None:
    assert tasks_per_message(waiting, task_seconds=task_seconds, largest=100) == refs
