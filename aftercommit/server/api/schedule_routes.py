"""``/v1/schedules``: what recurs, and the account of its ticks."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Response
from uuid_utils.compat import uuid7

from aftercommit.core import json_text
from aftercommit.core.errors import FieldError, ScheduleExists, ScheduleNotFound, ScheduleRefused
from aftercommit.db import schedule_runs, schedules, tasks
from aftercommit.db.database import Fetch
from aftercommit.db.schedules import ScheduleRow, ScheduleSpec
from aftercommit.server.api.body import documented, json_body
from aftercommit.server.api.dependencies import Dependencies, Injected
from aftercommit.server.api.problems import BODY_ERRORS, invalid, responses
from aftercommit.server.api.schedule_schemas import (
    BackfilledOut,
    BackfillIn,
    NameInPath,
    RunOut,
    RunsOut,
    RunsQuery,
    ScheduleIn,
    ScheduleOut,
    ScheduleReplaceIn,
    SchedulesOut,
    SchedulesQuery,
    runs_cursor,
)
from aftercommit.server.api.task_schemas import TaskOut
from aftercommit.server.submission import extra_ticks
from aftercommit.server.submission.schedule_tasks import TemplateRefused
from aftercommit.server.submission.submitter import Submitter, TasksRefused
from aftercommit.server.submission.task_input import TaskIn

router: Final = APIRouter(prefix="/v1/schedules", tags=["schedules"])


@router.post(
    "", status_code=201, responses=responses(ScheduleExists, *BODY_ERRORS), openapi_extra=documented(ScheduleIn)
)
async def create_schedule(
    wanted: Annotated[ScheduleIn, Depends(json_body(ScheduleIn))], dependencies: Injected
) -> ScheduleOut:
    """Create a schedule. Its first tick is the first one from now on."""
    spec = _spec(wanted.name, wanted, dependencies)
    async with dependencies.database.transaction() as fetch:
        row = await schedules.create(fetch, uuid7(), spec, await schedules.first_tick(fetch, spec))
    if row is None:
        raise ScheduleExists(f"There is a schedule {wanted.name} already: replace it with PUT, or choose another name.")
    dependencies.notifier.due()
    return _out(row)


@router.get("", responses=responses())
async def list_schedules(query: Annotated[SchedulesQuery, Query()], dependencies: Injected) -> SchedulesOut:
    """Schedules in the order of their names, a page at a time."""
    rows, is_more = await schedules.list_page(
        dependencies.database.fetch,
        after=query.cursor or "",
        limit=query.limit,
        max_bytes=dependencies.settings.api_max_page_bytes,
    )
    return SchedulesOut(schedules=[_out(row) for row in rows], next_cursor=rows[-1]["name"] if is_more else None)


@router.get("/{name}", responses=responses(ScheduleNotFound))
async def get_schedule(name: NameInPath, dependencies: Injected) -> ScheduleOut:
    """One schedule."""
    return _found(name, await schedules.get(dependencies.database.fetch, name))


@router.put("/{name}", responses=responses(ScheduleNotFound, *BODY_ERRORS), openapi_extra=documented(ScheduleReplaceIn))
async def replace_schedule(
    name: NameInPath,
    wanted: Annotated[ScheduleReplaceIn, Depends(json_body(ScheduleReplaceIn))],
    dependencies: Injected,
) -> ScheduleOut:
    """Give a schedule another definition. It goes on with the first tick from now on; pause and account stay. One that
    was declared in code belongs to the API from then on."""
    spec = _spec(name, wanted, dependencies)
    async with dependencies.database.transaction() as fetch:
        row = await schedules.lock(fetch, name)
        if row is not None:
            first = await schedules.first_tick(fetch, spec, schedule_id=row["id"])
            row = await schedules.replace(fetch, row["id"], spec, first)
    dependencies.notifier.due()
    return _found(name, row)


@router.delete("/{name}", status_code=204, responses=responses(ScheduleNotFound))
async def delete_schedule(name: NameInPath, dependencies: Injected) -> Response:
    """Delete a schedule and its account. Its tasks stay."""
    if not await schedules.delete(dependencies.database.fetch, name):
        raise _no(name)
    return Response(status_code=204)


@router.post("/{name}/pause", responses=responses(ScheduleNotFound))
async def pause_schedule(name: NameInPath, dependencies: Injected) -> ScheduleOut:
    """Make no tasks until the schedule is resumed."""
    return _found(name, await schedules.pause(dependencies.database.fetch, name))


@router.post("/{name}/resume", responses=responses(ScheduleNotFound))
async def resume_schedule(name: NameInPath, dependencies: Injected) -> ScheduleOut:
    """Go on from now on. The ticks of the pause are skipped."""
    row = await schedules.resume(dependencies.database.fetch, name)
    dependencies.notifier.due()
    return _found(name, row)


@router.post("/{name}/trigger", status_code=201, responses=responses(ScheduleNotFound, ScheduleRefused))
async def trigger_schedule(name: NameInPath, dependencies: Injected) -> TaskOut:
    """Make a task now, beside the ticks, whatever is paused or overlaps."""
    queues = dependencies.known_queues
    async with _submitting(name, dependencies) as (fetch, row):
        made = await extra_ticks.trigger(fetch, row, queues=queues)
    (task,) = await tasks.get(dependencies.database.fetch, [made.id])
    return TaskOut.model_validate(task)


@router.post(
    "/{name}/backfill",
    responses=responses(ScheduleNotFound, ScheduleRefused, *BODY_ERRORS),
    openapi_extra=documented(BackfillIn),
)
async def backfill_schedule(
    name: NameInPath, wanted: Annotated[BackfillIn, Depends(json_body(BackfillIn))], dependencies: Injected
) -> BackfilledOut:
    """Make a task for each past tick of a range that has none: up to 1,000 in one transaction."""
    async with _submitting(name, dependencies) as (fetch, row):
        made, next_from = await extra_ticks.backfill(
            fetch, row, since=wanted.since, before=wanted.before, queues=dependencies.known_queues
        )
    return BackfilledOut(created=len(made), task_ids=[task.id for task in made], next_from=next_from)


@asynccontextmanager
async def _submitting(name: str, dependencies: Dependencies) -> AsyncIterator[tuple[Fetch, ScheduleRow]]:
    """A transaction with the schedule locked, whose tasks are sent out after it."""
    if await schedules.get(dependencies.database.fetch, name) is None:
        raise _no(name)
    try:
        async with dependencies.database.transaction() as fetch:
            row = await schedules.lock(fetch, name)
            if row is None:  # it was deleted meanwhile
                raise _no(name)
            yield fetch, row
    except TemplateRefused as error:
        raise ScheduleRefused(f"The task of {name} cannot be submitted: {error}.") from None
    dependencies.notifier.outbox()


@router.get("/{name}/runs", responses=responses(ScheduleNotFound))
async def list_runs(name: NameInPath, query: Annotated[RunsQuery, Query()], dependencies: Injected) -> RunsOut:
    """The account of a schedule: what became of each tick, the youngest first."""
    schedule = await schedules.get(dependencies.database.fetch, name)
    if schedule is None:
        raise _no(name)
    rows = await schedule_runs.list_page(
        dependencies.database.fetch, schedule["id"], before=query.before, limit=query.limit + 1
    )
    page = [RunOut.model_validate(dict(row)) for row in rows[: query.limit]]
    return RunsOut(runs=page, next_cursor=runs_cursor(page[-1]) if len(rows) > query.limit else None)


def _spec(name: str, wanted: ScheduleReplaceIn, dependencies: Dependencies) -> ScheduleSpec:
    """Raises InvalidRequest for a task that does not fit this installation."""
    template = wanted.task.model_dump(mode="json", exclude_unset=True)
    settings = dependencies.settings
    task = TaskIn(**template)
    try:
        dependencies.submitter.check_types([task])
        Submitter.prepare([task], queues=dependencies.known_queues, most_bytes=settings.api_max_payload_bytes)
    except TasksRefused as error:
        raise invalid(*(FieldError(f"#/task/{flaw.field}", flaw.detail) for flaw in error.flaws)) from None
    return ScheduleSpec(name=name, timing=wanted.timing, policy=wanted.policy, task=json_text.dump(template))


def _out(row: ScheduleRow) -> ScheduleOut:
    return ScheduleOut.model_validate(dict(row) | {"task": json.loads(row["task"])})


def _found(name: str, row: ScheduleRow | None) -> ScheduleOut:
    if row is None:
        raise _no(name)
    return _out(row)


def _no(name: str) -> ScheduleNotFound:
    return ScheduleNotFound(f"There is no schedule {name}.")
