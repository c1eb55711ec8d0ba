"""``/v1/tasks``: look up, steer."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from aftercommit.core import failures, json_text
from aftercommit.core.errors import FieldError, TaskNotFound, UniqueConflict, WrongState
from aftercommit.core.states import FINAL, SOURCES, UNFINISHED, Event, Status
from aftercommit.db import cancels, listing, schedule, steering, tasks, waiting
from aftercommit.db.listing import TaskFilter
from aftercommit.db.tasks import BULKY
from aftercommit.server.api.body import documented, json_body
from aftercommit.server.api.dependencies import Dependencies, Injected
from aftercommit.server.api.problems import BODY_ERRORS, TASK_ERRORS, invalid, responses
from aftercommit.server.api.schemas import CancelIn, CompletionIn, RescheduleIn, TaskQuery, WaitQuery
from aftercommit.server.api.task_schemas import AttemptOut, AttemptsOut, FoundTaskOut, ListedTaskOut, TaskOut, TaskPage
from aftercommit.server.api.waiting_reasons import waiting_for
from aftercommit.server.submission.resubmission import resubmit
from aftercommit.server.submission.task_input import ResubmitIn, too_large

router: Final = APIRouter(prefix="/v1/tasks", tags=["tasks"])

_STOPPING: Final[dict[int | str, dict[str, Any]]] = {
    202: {"model": TaskOut, "description": "It runs, and is cancelled once its code has stopped"}
}


@router.get("", response_model=TaskPage, responses=responses())
async def list_tasks(query: Annotated[TaskQuery, Query()], dependencies: Injected) -> Response:
    """Tasks, newest first, a page at a time; payload, result and error only where ``include`` asks for them."""
    page = await listing.list_page(
        dependencies.database.fetch,
        TaskFilter(**query.model_dump(exclude={"cursor", "limit", "include"})),
        before=UUID(query.cursor) if query.cursor else None,
        limit=query.limit,
        bulky=query.bulky,
        max_bytes=dependencies.settings.api_max_page_bytes,
    )
    answer = TaskPage(
        tasks=[ListedTaskOut.model_validate(row) for row in page.tasks],
        next_cursor=page.tasks[-1]["id"].hex if page.more else None,
    )
    left_out = {"progress", *(BULKY - query.bulky)}
    return Response(answer.model_dump_json(exclude={"tasks": {"__all__": left_out}}), media_type="application/json")


@router.get("/{task_id:uuid}", responses=responses(TaskNotFound))
async def get_task(task_id: UUID, query: Annotated[WaitQuery, Query()], dependencies: Injected) -> FoundTaskOut:
    """One task; with ``wait``, as soon as it is final or the seconds are over. Of one that waits, ``waiting_for`` says
    why."""
    task = await _get(dependencies, task_id)
    if query.wait and task.status not in FINAL:
        await dependencies.waiters.wait(task_id, query.wait)
        task = await _get(dependencies, task_id)
    found = FoundTaskOut.model_construct(**dict(task))
    if task.status not in FINAL and task.status is not Status.RUNNING:
        facts = await waiting.look(dependencies.database.fetch, task_id)
        if facts is not None:  # it may have been started meanwhile
            found.waiting_for = waiting_for(facts, broker=dependencies.readiness.broker)
    return found


@router.get("/{task_id:uuid}/attempts", responses=responses(TaskNotFound))
async def list_attempts(task_id: UUID, dependencies: Injected) -> AttemptsOut:
    """Every attempt of a task, oldest first, with its error."""
    rows = await tasks.list_attempts(dependencies.database.fetch, task_id)
    recorded = [AttemptOut.model_validate(row) for row in rows]
    task = await _get(dependencies, task_id)
    return AttemptsOut(attempts=[*recorded, *_latest_attempt(task, recorded)])


def _latest_attempt(task: TaskOut, recorded: list[AttemptOut]) -> list[AttemptOut]:
    """The attempt that only the task's own row tells of: one that runs, or that succeeded."""
    if task.attempt == 0 or any(attempt.attempt == task.attempt for attempt in recorded):
        return []
    outcome = task.status if task.status in (Status.RUNNING, Status.SUCCEEDED) else "completed"
    return [
        AttemptOut(
            attempt=task.attempt,
            outcome=outcome,
            worker=task.worker,
            started_at=task.started_at,
            finished_at=task.finished_at,
            # While it runs, the task still shows why the attempt before did not succeed.
            error=None if task.status is Status.RUNNING else task.error,
        )
    ]


@router.post(
    "/{task_id:uuid}/cancel",
    response_model=TaskOut,
    responses=_STOPPING | responses(*TASK_ERRORS, *BODY_ERRORS),
    openapi_extra=documented(CancelIn, required=False),
)
async def cancel_task(
    task_id: UUID,
    wanted: Annotated[CancelIn, Depends(json_body(CancelIn, required=False))],
    query: Annotated[WaitQuery, Query()],
    dependencies: Injected,
) -> Response:
    """Cancel a task that waits: 200. One that runs is stopped: 202, it cannot succeed any more; with ``wait``, 200 as
    soon as it is final."""
    row = await cancels.cancel(dependencies.database.fetch, task_id, reason=wanted.reason)
    task = TaskOut.model_validate(row) if row is not None else await _cancelled_before(dependencies, task_id)
    if task.status not in FINAL:
        dependencies.notifier.cancels()
        if query.wait:
            await dependencies.waiters.wait(task_id, query.wait)
            task = await _get(dependencies, task_id)
    status_code = 200 if task.status in FINAL else 202
    # Many come at once: what is checked already is not checked again.
    return Response(task.model_dump_json(), status_code, media_type="application/json")


async def _cancelled_before(dependencies: Dependencies, task_id: UUID) -> TaskOut:
    """A client that lost the first answer asks again."""
    task = await _get(dependencies, task_id)
    if task.status is not Status.CANCELLED:
        raise _wrong_state(task, verb="cancelled", allowed=UNFINISHED)
    return task


@router.post("/{task_id:uuid}/run-now", responses=responses(*TASK_ERRORS))
async def run_task_now(task_id: UUID, dependencies: Injected) -> TaskOut:
    """Send a task out at once that is scheduled, or that waits for a retry."""
    done = await schedule.run_now(dependencies.database.fetch, task_id)
    dependencies.notifier.outbox()
    return await _changed(dependencies, task_id, done, verb="run now", allowed=SOURCES[Event.RUN_NOW])


@router.post(
    "/{task_id:uuid}/reschedule",
    responses=responses(*TASK_ERRORS, *BODY_ERRORS),
    openapi_extra=documented(RescheduleIn),
)
async def reschedule_task(
    task_id: UUID, wanted: Annotated[RescheduleIn, Depends(json_body(RescheduleIn))], dependencies: Injected
) -> TaskOut:
    """Give a scheduled task another time."""
    done = await schedule.reschedule(dependencies.database.fetch, task_id, run_at=wanted.run_at, delay=wanted.delay)
    dependencies.notifier.due()
    return await _changed(dependencies, task_id, done, verb="rescheduled", allowed=SOURCES[Event.RESCHEDULE])


@router.post(
    "/{task_id:uuid}/retry",
    responses=responses(*TASK_ERRORS, UniqueConflict, *BODY_ERRORS),
    openapi_extra=documented(ResubmitIn, required=False),
)
async def retry_task(
    task_id: UUID, wanted: Annotated[ResubmitIn, Depends(json_body(ResubmitIn, required=False))], dependencies: Injected
) -> TaskOut:
    """Send a final task out again, with all its retries before it, and with another payload if one is given. It takes
    its unique key again: 409 when another task holds that."""
    payload = _payload_text(wanted.new_payload, dependencies)
    done = await resubmit(dependencies.database, task_id, payload=payload)
    dependencies.notifier.outbox()
    return await _changed(dependencies, task_id, done, verb="sent out again", allowed=FINAL)


@router.post(
    "/{task_id:uuid}/complete", responses=responses(*TASK_ERRORS, *BODY_ERRORS), openapi_extra=documented(CompletionIn)
)
async def complete_task(
    task_id: UUID, wanted: Annotated[CompletionIn, Depends(json_body(CompletionIn))], dependencies: Injected
) -> TaskOut:
    """Record an outcome by hand, for work that was finished elsewhere. A worker's own outcome then no longer counts."""
    result, error, reason = None, None, ""
    if (failure := wanted.failure) is None:
        result = _result_text(wanted.result, dependencies)
    else:
        error = failures.dump(failure.type, failure.message)
        reason = f"recorded by hand: {failure.type}: {failure.message}"
    done = await steering.complete(dependencies.database.fetch, task_id, result=result, error=error, reason=reason)
    dependencies.notifier.outbox()
    return await _changed(dependencies, task_id, done, verb="completed", allowed=UNFINISHED)


def _payload_text(payload: dict[str, Any] | None, dependencies: Dependencies) -> str | None:
    if payload is None:
        return None
    text = json_text.dump(payload)
    size, limit = len(text.encode()), dependencies.settings.api_max_payload_bytes
    if size > limit:
        raise invalid(FieldError("#/payload", too_large(size, limit)))
    return text


def _result_text(result: Any, dependencies: Dependencies) -> str:
    text = json_text.dump(result)
    limit = dependencies.settings.api_max_payload_bytes
    if len(text.encode()) > limit:
        raise invalid(FieldError("#/result", f"is larger than API_MAX_PAYLOAD_BYTES, {limit}"))
    return text


async def _changed(
    dependencies: Dependencies, task_id: UUID, done: bool, *, verb: str, allowed: tuple[Status, ...]
) -> TaskOut:
    task = await _get(dependencies, task_id)
    if not done:
        raise _wrong_state(task, verb=verb, allowed=allowed)
    return task


def _wrong_state(task: TaskOut, *, verb: str, allowed: tuple[Status, ...]) -> WrongState:
    return WrongState(f"Task {task.id} is {task.status}; only a task that is {_either(allowed)} can be {verb}.")


def _either(statuses: tuple[Status, ...]) -> str:
    return " or ".join(filter(None, (", ".join(statuses[:-1]), statuses[-1])))


async def _get(dependencies: Dependencies, task_id: UUID) -> TaskOut:
    rows = await tasks.get(dependencies.database.fetch, [task_id])
    if not rows:
        raise TaskNotFound(f"There is no task {task_id}.")
    return TaskOut.model_validate(rows[0])
