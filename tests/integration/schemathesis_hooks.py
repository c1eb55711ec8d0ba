"""Loaded by schemathesis, not by pytest."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import schemathesis
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from aftercommit.server.api.schedule_schemas import CRON_FORMAT, ZONE_FORMAT
from aftercommit.server.api.schemas import KEY_PATTERN
from aftercommit.server.submission.task_input import DelaySeconds, Moment
from aftercommit.server.submission.unique_input import LONGEST_KEY

HEADER = "Idempotency-Key"
_numbers = itertools.count()
_moment: TypeAdapter[Any] = TypeAdapter(Moment)
_delay: TypeAdapter[Any] = TypeAdapter(DelaySeconds, config={"strict": True})

# What no pattern can say: that a line fires, and that there is such a zone.
schemathesis.openapi.format(CRON_FORMAT, st.sampled_from(["* * * * * *", "0 7 * * 1-5", "*/5 2,3 1-7 jan sun"]))
schemathesis.openapi.format(ZONE_FORMAT, st.sampled_from(["UTC", "Europe/Berlin", "America/Sao_Paulo"]))


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: Any, kwargs: dict[str, Any]) -> None:
    """Make each good key a new one, and give payloads the fields that unique keys are made of: that a key stands for
    its first request, and which fields a payload must have, is no part of a request's schema; nor is which parameters
    go together."""
    for task in _tasks(case.body):
        if isinstance(unique := task.get("unique"), dict) and isinstance(unique.get("fields"), list):
            _part(unique["fields"])
            _complete(task.setdefault("payload", {}), unique["fields"])
        _put_deadline_last(task)
    if case.query and {"move_to", "cancel"} <= case.query.keys():
        del case.query["cancel"]
    if re.fullmatch(KEY_PATTERN, str((case.headers or {}).get(HEADER, ""))):
        case.headers[HEADER] = f"key-{next(_numbers)}"


def _put_deadline_last(task: dict[str, Any]) -> None:
    """Give a task that has a deadline time to start before it: that its start and its deadline fit each other, and the
    present, is no part of a request's schema. What does not fit the schema stays as it is."""
    if task.get("expires_at") is None and task.get("expires_in_seconds") is None:
        return
    for name, kind, value in (
        ("expires_at", _moment, "9999-12-31T00:00:00Z"),
        ("run_at", _moment, "2001-01-01T00:00:00Z"),
        ("delay_seconds", _delay, 0),
    ):
        if task.get(name) is not None and _fits(kind, task[name]):
            task[name] = value


def _fits(kind: TypeAdapter[Any], value: Any) -> bool:
    try:
        kind.validate_python(value)
    except ValidationError:
        return False
    return True


def _tasks(body: Any) -> Iterator[dict[str, Any]]:
    tasks = body["tasks"] if isinstance(body, dict) and isinstance(body.get("tasks"), list) else [body]
    yield from (task for task in tasks if isinstance(task, dict))


def _part(fields: list[Any]) -> None:
    """Where a field lies within another one, take that one: a field that has fields is no single value."""
    names = [name for name in fields if isinstance(name, str)]
    for position, name in enumerate(fields):
        if name in names and len(name) <= LONGEST_KEY:
            fields[position] = min((each for each in names if name.startswith(f"{each}.")), key=len, default=name)


def _complete(payload: Any, fields: list[Any]) -> None:
    for name in fields:
        place = payload
        if not isinstance(name, str) or not isinstance(place, dict):
            return
        *outer, last = name.split(".")
        for part in outer:
            if not isinstance(place.get(part), dict):
                place[part] = {}
            place = place[part]
        if isinstance(value := place.setdefault(last, None), dict | list) or len(str(value)) > LONGEST_KEY:
            place[last] = None
