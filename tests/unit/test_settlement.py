"""What the relay does next follows from what became of each row."""

from uuid import UUID

from aftercommit.broker.message import Message
from aftercommit.broker.receipt import CONFIRMED, FULL, UNANSWERED, Fate, Receipt
from aftercommit.core.task_ref import TaskRef
from aftercommit.db.outbox import OutboxRow
from aftercommit.server.relay.grouping import Parcel
from aftercommit.server.relay.settlement import Settlement

RETURNED = Receipt(Fate.RETURNED, "no queue")
TOO_LARGE = Receipt(Fate.UNACCEPTABLE, "too large")


def refs(*numbers: int) -> list[TaskRef]:
    return [TaskRef(UUID(int=number), 1) for number in numbers]


def settlement(*parts: tuple[str, tuple[int, ...], Receipt]) -> Settlement:
    """Each row has one task of its own number."""
    parcels = [Parcel(Message(str(ids), "", name, b"{}"), name, ids, refs(*ids)) for name, ids, _ in parts]
    return Settlement(parcels, [receipt for *_, receipt in parts])


def row(number: int, *tasks: int) -> OutboxRow:
    ids = [UUID(int=task) for task in tasks]
    return OutboxRow(number, "a", "a", None, ids, [1] * len(ids), None, None)


def test_rows_are_told_apart_by_fate() -> None:
    found = settlement(("a", (1, 2), CONFIRMED), ("a", (3,), RETURNED), ("b", (4,), TOO_LARGE), ("b", (5,), UNANSWERED))
    assert found.done() == [1, 2]
    assert found.reasons(Fate.RETURNED) == {3: "no queue"}
    assert found.reasons(Fate.UNACCEPTABLE) == {4: "too large"}
    assert found.counts() == {"confirmed": 2, "returned": 1, "unacceptable": 1, "unknown": 1}
    assert found.tasks(Fate.UNKNOWN) == 1


def test_row_that_was_confirmed_in_part_keeps_the_rest() -> None:
    rows = [row(1, 10, 11, 12), row(2, 20, 21), row(3, 30)]
    parcels = [
        Parcel(Message("1", "", "a", b""), "a", (1,), refs(10, 11)),
        Parcel(Message("2", "", "a", b""), "a", (1, 2), refs(12, 20)),
        Parcel(Message("3", "", "a", b""), "a", (2,), refs(21)),
        Parcel(Message("4", "", "a", b""), "a", (3,), refs(30)),
    ]
    found = Settlement(parcels, [CONFIRMED, FULL, FULL, CONFIRMED])
    assert found.done() == [3]
    assert found.kept(rows) == {1: refs(12)}
    assert found.counts() == {"confirmed": 3, "refused": 3}
    assert found.last_ids() == {}


def test_message_that_is_not_ours_counts_as_one() -> None:
    found = Settlement([Parcel(Message("1", "", "tasks.dlq", b"x"), "tasks.dlq", (1,), [])], [CONFIRMED])
    assert (found.done(), found.counts()) == ([1], {"confirmed": 1})


def test_only_what_may_be_taken_later_backs_a_destination_off() -> None:
    found = settlement(("a", (1,), FULL), ("b", (2,), RETURNED), ("c", (3,), TOO_LARGE), ("d", (4,), UNANSWERED))
    assert found.troubles() == {"a": "the queue is full", "b": "no queue"}
    assert found.destinations() == {"a", "b", "c", "d"}


def test_silent_destination_is_backed_off_where_another_confirms() -> None:
    assert settlement(("a", (1,), UNANSWERED), ("b", (2,), UNANSWERED)).troubles() == {}
    found = settlement(("a", (1,), UNANSWERED), ("b", (2,), CONFIRMED), ("b", (3,), UNANSWERED))
    assert found.troubles() == {"a": "no confirm came in time"}


def test_cursor_passes_a_destination_only_where_nothing_is_left_to_publish() -> None:
    found = settlement(
        ("a", (1, 5), CONFIRMED),
        ("a", (3,), CONFIRMED),
        ("b", (2,), CONFIRMED),
        ("b", (4,), FULL),
        ("c", (6,), TOO_LARGE),
        ("c", (7,), CONFIRMED),
        ("d", (8,), UNANSWERED),
    )
    assert found.last_ids() == {"a": 5, "c": 7}
