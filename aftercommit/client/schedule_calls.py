"""The calls about schedules."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypedDict, Unpack

from aftercommit.client.call import Call, Page, encode, paged, query
from aftercommit.client.results import Backfilled, Result, Schedule, ScheduleRun, Task
from aftercommit.task_request import TaskRequest, written_out

SCHEDULES: Final = "/v1/schedules"
SCHEDULE: Final = "/v1/schedules/{name}"


class ScheduleOptions(TypedDict, total=False):
    """``cron``, with its ``zone``, or ``interval_seconds``; and what the HTTP API says of the others."""

    cron: str
    zone: str
    interval_seconds: float
    jitter_seconds: float
    catch_up: Literal["skip", "one", "all"]
    catch_up_max: int
    catch_up_seconds: float
    overlap: Literal["allow", "skip", "buffer_one", "cancel_running"]


class _Schedules(Result):
    schedules: tuple[Schedule, ...]
    next_cursor: str | None


class _Runs(Result):
    runs: tuple[ScheduleRun, ...]
    next_cursor: str | None


def create_schedule(name: str, task: TaskRequest, /, **options: Unpack[ScheduleOptions]) -> Call[Schedule]:
    """Create a schedule of ``task``. Its first tick is the first one from now on. Raises ScheduleExists, ApiError."""
    return _define("POST", SCHEDULES, {"name": name, "task": task.fields(), **options})


def replace_schedule(name: str, task: TaskRequest, /, **options: Unpack[ScheduleOptions]) -> Call[Schedule]:
    """Give a schedule another definition; it keeps its pause and its account. Repeated safely. Raises
    ScheduleNotFound, ApiError."""
    return _define("PUT", SCHEDULE, {"task": task.fields(), **options}, names={"name": name})


def _define(
    method: str, path: str, fields: Mapping[str, Any], *, names: Mapping[str, str] | None = None
) -> Call[Schedule]:
    return Call(
        method=method,
        path=path,
        names=names or {},
        body=encode(fields),
        repeatable=method == "PUT",
        parse=Schedule.model_validate_json,
    )


def get_schedule(name: str) -> Call[Schedule]:
    """Raises ScheduleNotFound, ApiError."""
    return Call(method="GET", path=SCHEDULE, names={"name": name}, repeatable=True, parse=Schedule.model_validate_json)


def list_schedules(*, page_size: int = 100) -> Call[Page[Schedule]]:
    """All schedules by name, ``page_size`` (up to 1000) in a request. Raises ApiError."""

    def parse(content: bytes) -> tuple[tuple[Schedule, ...], str | None]:
        listed = _Schedules.model_validate_json(content)
        return listed.schedules, listed.next_cursor

    return paged(Call(method="GET", path=SCHEDULES, query=query(limit=page_size), repeatable=True, parse=parse))


def list_schedule_runs(name: str, *, page_size: int = 100) -> Call[Page[ScheduleRun]]:
    """What became of each tick, the youngest first, ``page_size`` (up to 1000) in a request. Raises ScheduleNotFound,
    ApiError."""

    def parse(content: bytes) -> tuple[tuple[ScheduleRun, ...], str | None]:
        listed = _Runs.model_validate_json(content)
        return listed.runs, listed.next_cursor

    return paged(
        Call(
            method="GET",
            path=f"{SCHEDULE}/runs",
            names={"name": name},
            query=query(limit=page_size),
            repeatable=True,
            parse=parse,
        )
    )


def pause_schedule(name: str) -> Call[Schedule]:
    """Make no tasks until it is resumed. Repeated safely. Raises ScheduleNotFound, ApiError."""
    return _switch("pause", name)


def resume_schedule(name: str) -> Call[Schedule]:
    """Go on from now on; the ticks of the pause are skipped. Repeated safely. Raises ScheduleNotFound, ApiError."""
    return _switch("resume", name)


def _switch(verb: str, name: str) -> Call[Schedule]:
    return Call(
        method="POST",
        path=f"{SCHEDULE}/{verb}",
        names={"name": name},
        repeatable=True,
        parse=Schedule.model_validate_json,
    )


def trigger_schedule(name: str) -> Call[Task]:
    """Make a task of it now, beside the ticks. Raises ScheduleNotFound, ScheduleRefused, ApiError."""
    return Call(
        method="POST",
        path=f"{SCHEDULE}/trigger",
        names={"name": name},
        repeatable=False,
        parse=Task.model_validate_json,
    )


def backfill_schedule(name: str, since: datetime, before: datetime) -> Call[Backfilled]:
    """Make a task for each past tick of a range that has none, up to 1,000; go on from ``next_from``. Repeated safely:
    no tick gets a second task, but the answer has only those of the last try. Raises ScheduleNotFound, ScheduleRefused,
    ApiError."""
    given = {"from": written_out("since", since), "to": written_out("before", before)}
    return Call(
        method="POST",
        path=f"{SCHEDULE}/backfill",
        names={"name": name},
        body=encode(given),
        repeatable=True,
        parse=Backfilled.model_validate_json,
    )


def delete_schedule(name: str) -> Call[None]:
    """Delete a schedule and its account; its tasks stay. Raises ScheduleNotFound, ApiError."""
    return Call(method="DELETE", path=SCHEDULE, names={"name": name}, repeatable=False, parse=lambda _: None)
