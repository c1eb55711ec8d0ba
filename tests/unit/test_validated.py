"""What is wrong with a body is told in bounded memory, however much is wrong with it."""

import tracemalloc
from typing import Any

import pytest
from pydantic import BaseModel

from aftercommit.core.errors import InvalidRequest
from aftercommit.server.api.body import validated
from aftercommit.server.api.schemas import BatchIn, CompletionIn
from aftercommit.server.submission.task_input import TaskIn

CROWD = {str(number): 0 for number in range(50_000)}


@pytest.mark.parametrize(
    ("model", "body", "pointer"),
    [
        (TaskIn, {"type": "echo"} | CROWD, "#"),
        (BatchIn, {"tasks": [{"type": "echo"}, {"type": "echo"} | CROWD]}, "#/tasks/1"),
        (BatchIn, {"tasks": [{"type": "echo", "tags": [0] * 20}] * 10_000}, "#"),
        (CompletionIn, {"error": CROWD}, "#/error"),
        (TaskIn, {"type": "echo", "retry": CROWD}, "#/retry"),
        (TaskIn, {"type": "echo", "retry": {"backoff": CROWD}}, "#/retry/backoff"),
    ],
)
def test_body_with_very_many_flaws_is_refused_in_little_memory(
    model: type[BaseModel], body: dict[str, Any], pointer: str
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest) as caught:
            validated(model, body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [flaw.pointer for flaw in caught.value.errors] == [pointer]
    assert peak < 10_000_000


def test_unknown_fields_are_named_where_they_are_few() -> None:
    with pytest.raises(InvalidRequest) as caught:
        validated(TaskIn, {"type": "echo", "prio": "high", "retries": 3})
    assert [flaw.pointer for flaw in caught.value.errors] == ["#/prio", "#/retries"]
