"""A request's hash is that of its JSON value."""

import pytest

from aftercommit.server.submission.request_hash import request_hash

GIVEN = {"type": "echo", "payload": {"a": [1, 2.5, None, True], "b": {"c": "ä"}}, "max_retries": 5}


@pytest.mark.parametrize(
    "same",
    [
        {"max_retries": 5, "payload": {"b": {"c": "ä"}, "a": [1, 2.5, None, True]}, "type": "echo"},
        {"type": "echo", "payload": {"a": [1.0, 2.5, None, True], "b": {"c": "ä"}}, "max_retries": 5.0},
    ],
)
def test_hash_is_the_same_when_the_value_is(same: object) -> None:
    assert request_hash("one", same) == request_hash("one", GIVEN)


@pytest.mark.parametrize(
    "other",
    [
        GIVEN | {"max_retries": "5"},
        GIVEN | {"max_retries": True},
        GIVEN | {"priority": "medium"},
        GIVEN | {"payload": {"a": [2.5, 1, None, True], "b": {"c": "ä"}}},
        [GIVEN],
    ],
)
def test_hash_is_another_when_the_value_is(other: object) -> None:
    assert request_hash("one", other) != request_hash("one", GIVEN)


def test_hash_tells_kinds_of_requests_apart() -> None:
    assert request_hash("one", GIVEN) != request_hash("batch", GIVEN)
