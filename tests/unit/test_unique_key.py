"""What a unique key stands for, and what is refused."""

from typing import Any

import pytest

from aftercommit.core.errors import InvalidRequest
from aftercommit.server.api.body import validated
from aftercommit.server.api.schemas import BatchIn
from aftercommit.server.submission.task_input import TaskIn
from aftercommit.server.submission.unique_input import UniqueIn
from aftercommit.server.submission.unique_key import field_flaws, uniqueness

PAYLOAD = {"order": {"id": 17, "lines": [1, 2]}, "note": None, "n": 5}


def key_of(type: str = "a", queue: str = "tasks", payload: dict[str, Any] = PAYLOAD, **unique: Any) -> bytes:
    return uniqueness(UniqueIn.model_validate(unique), type=type, queue=queue, payload=payload).key


@pytest.mark.parametrize(
    ("unique", "same_in_type", "same_in_queue"),
    [
        ({"key": "k"}, False, True),
        ({"key": "k", "scope": "queue"}, True, False),
        ({"key": "k", "scope": "global"}, True, True),
        ({"fields": ["order.id"]}, False, True),
    ],
)
def test_key_is_the_same_within_its_scope(unique: dict[str, Any], same_in_type: bool, same_in_queue: bool) -> None:
    assert (key_of(**unique) == key_of(type="b", **unique)) == same_in_type
    assert (key_of(**unique) == key_of(queue="other", **unique)) == same_in_queue


def test_scopes_and_ways_to_give_a_key_are_told_apart() -> None:
    keys = [
        key_of(type="x", queue="x", key="k"),
        key_of(type="x", queue="x", key="k", scope="queue"),
        key_of(type="x", queue="x", key="k", scope="global"),
        key_of(type="x", queue="x", payload={"key": "k"}, fields=["key"]),
        key_of(type="x", queue="x", payload={"key": "k", "n": 1}, fields=["key", "n"]),
    ]
    assert len(set(keys)) == len(keys)


def test_key_is_made_of_the_values_of_its_fields_alone() -> None:
    fields = ["order.id", "n"]
    same = {"n": 5.0, "order": {"id": 17}, "more": 1}
    assert key_of(fields=fields) == key_of(fields=fields[::-1], payload=same)
    for other in ({"n": "5", "order": {"id": 17}}, {"n": 17, "order": {"id": 5}}):
        assert key_of(fields=fields) != key_of(fields=fields, payload=other)


def test_fields_that_the_payload_does_not_have_are_named() -> None:
    unique = UniqueIn(fields=["order.id", "order.total", "note", "note.x", "order.id.x"])
    assert list(field_flaws(unique, PAYLOAD)) == [
        (1, "'order.total' is not in the payload"),
        (3, "'note.x' is not in the payload"),
        (4, "'order.id.x' is not in the payload"),
    ]


def test_fields_that_have_no_short_value_are_named() -> None:
    payload = PAYLOAD | {"longest": "x" * 500, "longer": "x" * 501, "yes": True, "n": 1.5}
    unique = UniqueIn(fields=["order", "order.lines", "longest", "longer", "yes", "n"])
    assert list(field_flaws(unique, payload)) == [
        (0, "'order' is an object in the payload, not a single value"),
        (1, "'order.lines' is an array in the payload, not a single value"),
        (3, "'longer' has 501 characters in the payload; 500 are allowed"),
    ]


@pytest.mark.parametrize(
    ("unique", "pointer"),
    [
        ({}, "#/unique"),
        ({"key": None, "fields": None}, "#/unique"),
        ({"key": "x" * 10_000}, "#/unique/key"),
        ({"key": ""}, "#/unique/key"),
        ({"key": 5}, "#/unique/key"),
        ({"key": "k", "fields": ["a"]}, "#/unique/fields"),
        ({"fields": []}, "#/unique/fields"),
        ({"fields": ["x" * 501]}, "#/unique/fields/0"),
        ({"key": "k", "scope": "task"}, "#/unique/scope"),
        ({"key": "k", "while": "running"}, "#/unique/while"),
        ({"key": "k", "while": "waiting", "for_seconds": 5}, "#/unique/for_seconds"),
        ({"key": "k", "for_seconds": 0}, "#/unique/for_seconds"),
        ({"key": "k", "on_conflict": "ignore"}, "#/unique/on_conflict"),
        ({"key": "k", "at_most_seconds": 5}, "#/unique/at_most_seconds"),
        ({"key": "k", "held_while": "waiting"}, "#/unique/held_while"),
        ({str(number): 0 for number in range(50_000)}, "#/unique"),
    ],
)
def test_bad_unique_key_is_refused_by_the_name_of_its_field(unique: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        validated(TaskIn, {"type": "echo", "unique": unique})
    assert [flaw.pointer for flaw in caught.value.errors] == [pointer]


def test_unique_key_with_far_too_many_fields_is_one_flaw_in_a_batch_too() -> None:
    unique = {str(number): 0 for number in range(15_000)}
    with pytest.raises(InvalidRequest) as caught:
        validated(BatchIn, {"tasks": [{"type": "echo", "unique": unique}] * 2})
    assert [flaw.pointer for flaw in caught.value.errors] == ["#/tasks/0/unique", "#/tasks/1/unique"]
