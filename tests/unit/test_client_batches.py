"""Any number of tasks as batches."""

import json
from uuid import UUID

import pytest

from aftercommit import InvalidPayload, TaskRequest
from aftercommit.client.batches import BatchCall, Batcher


def requests(count: int, *, padding: str = "") -> list[TaskRequest]:
    return [TaskRequest("echo", {"n": n, "padding": padding}) for n in range(count)]


def batches(batcher: Batcher, tasks: list[TaskRequest]) -> list[BatchCall]:
    made = [batcher.add(task) for task in tasks]
    return [call for call in (*made, batcher.rest()) if call is not None]


def numbers(call: BatchCall) -> list[int]:
    return [task["payload"]["n"] for task in json.loads(call.body or b"")["tasks"]]


def test_batch_is_made_as_soon_as_it_has_its_tasks() -> None:
    batcher = Batcher(batch_size=2)
    first, second, third = requests(3)
    assert batcher.add(first) is None
    made = batcher.add(second)
    assert made is not None
    assert numbers(made) == [0, 1]
    assert batcher.add(third) is None
    rest = batcher.rest()
    assert rest is not None
    assert numbers(rest) == [2]
    assert batcher.rest() is None


def test_batches_have_all_tasks_in_their_order() -> None:
    made = batches(Batcher(batch_size=10), requests(25))
    assert [numbers(call) for call in made] == [list(range(10)), list(range(10, 20)), list(range(20, 25))]


def test_batch_ends_when_it_is_large() -> None:
    made = batches(Batcher(batch_size=1_000, enough_bytes=1_000), requests(9, padding="x" * 300))
    assert [len(numbers(call)) for call in made] == [3, 3, 3]


def test_each_batch_has_a_key_of_its_own() -> None:
    keys = [call.idempotency_key or "" for call in batches(Batcher(batch_size=1), requests(3))]
    assert len({UUID(key) for key in keys}) == 3


def test_keys_follow_from_the_one_that_is_given() -> None:
    for _ in range(2):
        made = batches(Batcher(batch_size=2, idempotency_key="import-7"), requests(5))
        assert [call.idempotency_key for call in made] == ["import-7-0", "import-7-1", "import-7-2"]


def test_nothing_makes_no_batch() -> None:
    assert batches(Batcher(batch_size=1), []) == []


@pytest.mark.parametrize("size", [0, -1, 10_001])
def test_size_that_the_api_does_not_take_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="give 1 to 10000"):
        Batcher(batch_size=size)


def test_task_that_is_not_json_is_refused() -> None:
    with pytest.raises(InvalidPayload):
        Batcher(batch_size=2).add(TaskRequest("echo", {"a": {1}}))
