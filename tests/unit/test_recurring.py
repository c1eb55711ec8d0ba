"""What handlers may declare, and what is refused at import."""

from typing import Any

import pytest

from aftercommit import Cron, Every, task
from aftercommit.core.schedules import CatchUp, Overlap, Timing
from aftercommit.recurring import Recurrence
from aftercommit.worker.declared_schedules import spec_of


async def run() -> None: ...


@pytest.mark.parametrize(
    ("changes", "flaw"),
    [
        ({"line": "0 7 * *"}, "line"),
        ({"line": "0 0 30 2 *"}, "line"),
        ({"zone": "Mars/Olympus"}, "zone"),
        ({"name": "a b"}, "name"),
        ({"priority": "urgent"}, "priority"),
        ({"catch_up": "some"}, "catch_up"),
        ({"catch_up_max": 0}, "catch_up_max"),
        ({"catch_up_max": 1.5}, "catch_up_max"),
        ({"overlap": "never"}, "overlap"),
        ({"jitter_seconds": -1}, "jitter_seconds"),
        ({"payload": {"a": object()}}, "payload"),
        ({"payload": {"a": float("nan")}}, "payload"),
        ({"payload": {"a": "\ud800"}}, "payload"),
        ({"payload": {"a\x00": 1}}, "NUL"),
    ],
)
def test_recurrence_that_cannot_be_is_refused_at_import(changes: dict[str, Any], flaw: str) -> None:
    with pytest.raises(ValueError, match=flaw):
        Cron(**{"line": "0 7 * * *", **changes})


@pytest.mark.parametrize("seconds", [0.5, 10**9])
def test_interval_out_of_range_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds"):
        Every(seconds=seconds)


def test_payload_may_hold_whatever_json_can() -> None:
    payload = {"é": ["\\u0000", "\N{GRINNING FACE}", None, 1.5]}
    assert Every(seconds=60, payload=payload).payload == payload


def test_type_that_is_no_name_of_a_schedule_needs_one() -> None:
    with pytest.raises(ValueError, match="name="):
        task("reports/daily", schedule=Every(seconds=60))
    assert task("reports/daily", schedule=Every(seconds=60, name="daily"))(run).schedule is not None


@pytest.mark.parametrize(
    ("recurrence", "timing"),
    [
        (
            Cron("0 7 * * 1-5", zone="Europe/Berlin", jitter_seconds=30),
            Timing(cron="0 7 * * 1-5", zone="Europe/Berlin", interval_seconds=None, jitter_seconds=30),
        ),
        (Every(seconds=90), Timing(cron=None, zone=None, interval_seconds=90)),
    ],
)
def test_declaration_becomes_a_schedule_named_like_its_type(recurrence: Recurrence, timing: Timing) -> None:
    spec = spec_of(task("report.send", schedule=recurrence)(run), recurrence)
    assert (spec.name, spec.timing, spec.declared_in) == ("report.send", timing, __name__)
    assert (spec.policy.catch_up, spec.policy.overlap) == (CatchUp.ONE, Overlap.ALLOW)
    assert spec.task == '{"type":"report.send","payload":{},"queue":null,"priority":"medium"}'
