"""The forwarder's cursor, and what answers mean to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftercommit.client.errors import ApiError, BodyTooLarge, FieldError, InvalidRequest, TasksDeleted, UniqueConflict
from aftercommit.forward.delivery import Away, Refused, halves, judged
from aftercommit.forward.safe_cursor import SafeCursor


def test_cursor_follows_once_all_have_ended_that_were_running() -> None:
    cursor = SafeCursor()
    cursor.saw(10, oldest_running=100, next_transaction=105)
    cursor.saw(20, oldest_running=104, next_transaction=110)
    assert cursor.after == 0
    cursor.saw(30, oldest_running=105, next_transaction=120)
    assert cursor.after == 10
    cursor.saw(40, oldest_running=120, next_transaction=121)
    assert cursor.after == 30
    cursor.rewind()
    assert cursor.after == 0


@given(st.data())
def test_no_row_is_passed_over_however_transactions_interleave(data: st.DataObject) -> None:
    """Transactions get their number, then a row's id, then commit; reads come in between."""
    cursor, read = SafeCursor(), set[int]()
    running: dict[int, int | None] = {}
    committed: set[int] = set()
    next_transaction, next_id = 1, 1
    for _ in range(data.draw(st.integers(5, 60))):
        match data.draw(st.sampled_from(["begin", "insert", "commit", "read"])):
            case "begin":
                running[next_transaction] = None
                next_transaction += 1
            case "insert" if empty := [one for one, row in running.items() if row is None]:
                running[data.draw(st.sampled_from(empty))] = next_id
                next_id += 1
            case "commit" if running:
                one = data.draw(st.sampled_from(sorted(running)))
                if (row := running.pop(one)) is not None:
                    committed.add(row)
                    assert row > cursor.after
            case "read" if found := sorted(row for row in committed - read if row > cursor.after):
                found = found[: data.draw(st.integers(1, 3))]
                read.update(found)
                cursor.saw(
                    found[-1],
                    oldest_running=min(running, default=next_transaction),
                    next_transaction=next_transaction,
                )
                assert all(row > cursor.after for row in committed - read)


def test_answers_that_name_rows_refuse_these() -> None:
    flaws = (("#/tasks/3/queue", "is not known"), ("#/tasks/3/type", "is odd"), ("#/tasks/5", "x"))
    errors = [FieldError(*flaw) for flaw in flaws]
    expected = {3: "queue: is not known; type: is odd", 5: "task: x"}
    assert judged(InvalidRequest("no", status=422, errors=errors), rows=9) == Refused(expected)
    held = UniqueConflict("no", status=409, errors=[FieldError("#/tasks/0/unique", "is held")])
    assert judged(held, rows=9) == Refused({0: "unique: is held"})


def test_batch_that_is_refused_as_a_whole_is_split_until_one_row_is_left() -> None:
    assert judged(BodyTooLarge("large", status=413), rows=2) == Refused({})
    assert judged(BodyTooLarge("large", status=413), rows=1) == Refused({0: "large"})
    assert (halves([1, 2, 3]), halves([1])) == ([1, 2], [1])


def test_batch_whose_tasks_are_gone_had_been_taken() -> None:
    assert judged(TasksDeleted("gone", status=410), rows=2) is None


@pytest.mark.parametrize(
    ("error", "undone"),
    [
        (ApiError("down", code="database-unavailable", status=503), False),
        (ApiError("busy", code="overloaded", status=503, retry_after_seconds=3), True),
        (ApiError("slow down", status=429, retry_after_seconds=3), True),
        (ApiError("who are you", status=401), True),
        (ApiError("what", status=500), False),
        (InvalidRequest("no", status=422, errors=[FieldError("Idempotency-Key", "is odd")]), False),
    ],
)
def test_everything_else_is_waited_for(error: ApiError, undone: bool) -> None:
    with pytest.raises(Away) as caught:
        judged(error, rows=2)
    assert (caught.value.undone, caught.value.retry_after_seconds) == (undone, error.retry_after_seconds)
