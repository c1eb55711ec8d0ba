"""What the relay does next follows from what became of each row."""

from aftercommit.broker.message import Message
from aftercommit.broker.receipt import CONFIRMED, FULL, UNANSWERED, Fate, Receipt
from aftercommit.server.relay.grouping import Parcel
from aftercommit.server.relay.settlement import Settlement

RETURNED = Receipt(Fate.RETURNED, "no queue")
TOO_LARGE = Receipt(Fate.UNACCEPTABLE, "too large")


def settlement(*parts: tuple[str, tuple[int, ...], Receipt]) -> Settlement:
    parcels = [Parcel(Message(str(ids[0]), "", name, b"{}"), name, ids) for name, ids, _ in parts]
    return Settlement(parcels, [receipt for *_, receipt in parts])


def test_rows_are_told_apart_by_fate() -> None:
    found = settlement(("a", (1, 2), CONFIRMED), ("a", (3,), RETURNED), ("b", (4,), TOO_LARGE), ("b", (5,), UNANSWERED))
    assert found.row_ids(Fate.CONFIRMED) == [1, 2]
    assert found.reasons(Fate.RETURNED) == {3: "no queue"}
    assert found.reasons(Fate.UNACCEPTABLE) == {4: "too large"}
    assert found.counts() == {"confirmed": 2, "returned": 1, "unacceptable": 1, "unknown": 1}


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
