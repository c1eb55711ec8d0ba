from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from aftercommit.server.submission.deadlines import deadline_flaw
from aftercommit.server.submission.task_input import TaskIn

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
FIVE_TO, FIVE_PAST, TEN_PAST = "2026-01-01T11:55:00Z", "2026-01-01T12:05:00Z", "2026-01-01T13:10:00+01:00"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, None),
        ({"run_at": TEN_PAST}, None),
        ({"expires_at": FIVE_PAST}, None),
        ({"expires_in_seconds": 0.1}, None),
        ({"expires_at": FIVE_TO}, "expires_at"),
        ({"expires_at": "2026-01-01T12:00:00Z"}, "expires_at"),
        ({"expires_at": FIVE_PAST, "run_at": FIVE_TO}, None),
        ({"expires_at": FIVE_TO, "run_at": FIVE_TO}, "expires_at"),
        ({"expires_at": TEN_PAST, "run_at": FIVE_PAST}, None),
        ({"expires_at": FIVE_PAST, "run_at": FIVE_PAST}, "expires_at"),
        ({"expires_at": FIVE_PAST, "delay_seconds": 299}, None),
        ({"expires_at": FIVE_PAST, "delay_seconds": 300}, "expires_at"),
        ({"expires_in_seconds": 301, "run_at": FIVE_PAST}, None),
        ({"expires_in_seconds": 299, "run_at": FIVE_PAST}, "expires_in_seconds"),
        ({"expires_in_seconds": 2, "delay_seconds": 1}, None),
        ({"expires_in_seconds": 1, "delay_seconds": 1}, "expires_in_seconds"),
    ],
)
def test_deadline_leaves_the_task_some_time_after_its_start(given: dict[str, Any], field: str | None) -> None:
    flaw = deadline_flaw(TaskIn(type="test", **given), NOW)
    assert (flaw and flaw[0]) == field


def test_one_deadline_is_given_or_none() -> None:
    with pytest.raises(ValidationError, match="expires_in_seconds"):
        TaskIn.model_validate({"type": "test", "expires_at": FIVE_PAST, "expires_in_seconds": 1})
    assert TaskIn.model_validate({"type": "test", "expires_at": None, "expires_in_seconds": 1}).expires_in is not None
