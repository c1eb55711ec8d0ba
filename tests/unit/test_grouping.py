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
        "task_id": UUID(int=number),
        "dispatch": 1,
        "dead_reason": None,
        "body": None,
    }
    return OutboxRow(**fields | changes)


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
        row(2, dead_reason="malformed", destination="tasks.dlq", task_id=None, dispatch=None, body=b"\xff"),
    ]
    own, foreign = pack(rows, share=lambda *_: 10)
    assert own.message.headers[message.REASON_HEADER] == "failed"
    assert [ref.task_id.int for ref in message.decode(own.message.body)] == [1]
    assert (foreign.message.body, foreign.row_ids, foreign.destination) == (b"\xff", (2,), "tasks.dlq")


@given(
    st.lists(st.tuples(st.sampled_from(["a.high", "b.low"]), st.sampled_from([None, 5]), st.booleans())),
    st.integers(1, 5),
)
def test_every_row_is_in_exactly_one_parcel(kinds: list[tuple[str, int | None, bool]], share: int) -> None:
    rows = [
        row(number, work_queue=work_queue, delay_seconds=delay, dead_reason="dead" if dead else None)
        for number, (work_queue, delay, dead) in enumerate(kinds)
    ]
    parcels = pack(rows, share=lambda *_: share)
    assert sorted(row_id for parcel in parcels for row_id in parcel.row_ids) == list(range(len(rows)))
    assert all(len(parcel.row_ids) <= share for parcel in parcels)


@pytest.mark.parametrize(
    ("waiting", "task_seconds", "refs"),
    [
        (10_000, None, 1),
        (10_000, 0.0, 100),
        (10_000, 0.001, 100),
        (10_000, 0.01, 10),
        (10_000, 0.08, 1),
        (10_000, 3600.0, 1),
        (1, 0.0, 1),
        (9, 0.0, 1),
        (80, 0.0, 10),
    ],
)
def test_tasks_share_a_message_when_tasks_are_short_and_many(
    waiting: int, task_seconds: float | None, refs: int
) -> None:
    assert tasks_per_message(waiting, task_seconds=task_seconds, largest=100) == refs
