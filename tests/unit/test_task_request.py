"""A request as the API takes it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from aftercommit import Backoff, Delays, TaskRequest
from aftercommit.server.submission.task_input import TaskIn
from aftercommit.server.submission.unique_input import UniqueIn
from aftercommit.task_request import OPTIONS, UniqueOptions

NOON = datetime(2026, 12, 24, 12, tzinfo=UTC)


def test_options_are_those_of_the_api() -> None:
    assert set(TaskIn.model_fields) - {"type", "payload"} == OPTIONS
    names = {field.alias or name for name, field in UniqueIn.model_fields.items()}
    assert names == UniqueOptions.__optional_keys__


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, {}),
        ({"priority": "high", "tags": ("a", "b")}, {"priority": "high", "tags": ("a", "b")}),
        ({"run_at": NOON, "expires_at": None}, {"run_at": "2026-12-24T12:00:00+00:00"}),
        ({"retry": Delays(5, 30)}, {"retry": {"delays_seconds": [5, 30]}}),
        (
            {"retry": Backoff(initial_seconds=1, factor=3, cap_seconds=60, jitter=0)},
            {"retry": {"backoff": {"initial_seconds": 1, "factor": 3, "cap_seconds": 60, "jitter": 0}}},
        ),
        ({"unique": {"key": "a", "while": "waiting"}}, {"unique": {"key": "a", "while": "waiting"}}),
    ],
)
def test_request_has_the_fields_of_a_submit(options: dict[str, Any], sent: dict[str, Any]) -> None:
    request = TaskRequest("echo", {"a": 1}, options)  # type: ignore[arg-type]  # each is one of TaskOptions
    assert request.fields() == {"type": "echo", "payload": {"a": 1}, **sent}


def test_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="a task has no option colour: there are delay_seconds, "):
        TaskRequest("echo", {}, {"colour": "red"})  # type: ignore[typeddict-unknown-key]  # what the test is about


def test_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="give it a time zone"):
        TaskRequest("echo", {}, {"run_at": NOON.replace(tzinfo=None)}).fields()
