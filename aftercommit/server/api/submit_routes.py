"""``POST /v1/tasks``: parses a request, has it submitted, renders what became of its tasks."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, Final, assert_never

from fastapi import APIRouter, Request, Response

from aftercommit.core.errors import FieldError, UniqueConflict
from aftercommit.core.states import Status
from aftercommit.db.submit import IdempotencyKey, NewTask
from aftercommit.server.api.body import documented, read_json, validated
from aftercommit.server.api.dependencies import Dependencies
from aftercommit.server.api.direct_routes import Endpoint
from aftercommit.server.api.problems import MOST_ERRORS, SUBMIT_ERRORS, invalid, responses
from aftercommit.server.api.schemas import KEY_PATTERN, BatchIn
from aftercommit.server.api.submit_schemas import ListedSubmittedTaskOut, SubmittedTaskOut, SubmittedTasksOut
from aftercommit.server.api.task_schemas import UniqueOut
from aftercommit.server.submission.request_hash import request_hash
from aftercommit.server.submission.results import Created, Fate, Known, SubmittedTask
from aftercommit.server.submission.submission_queue import SubmissionDropped
from aftercommit.server.submission.submitter import TasksRefused
from aftercommit.server.submission.task_input import TaskIn
from aftercommit.server.submission.unique_commit import UniqueKeysHeld

KEY: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"

_KEY: Final = re.compile(KEY_PATTERN)
_KEY_PARAMETER: Final = {
    "name": KEY,
    "in": "header",
    "required": False,
    "description": "Up to 200 visible ASCII characters, held for 24 h: the same key and body returns the first tasks",
    "schema": {"type": "string", "pattern": KEY_PATTERN},
}
_CREATED: Final[dict[int | str, dict[str, Any]]] = {
    201: {
        "headers": {
            REPLAYED: {
                "description": "true: these are the tasks of an earlier request with this Idempotency-Key",
                "schema": {"type": "string", "const": "true"},
            }
        }
    }
}
_FOUND: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": SubmittedTaskOut, "description": "The task that holds the unique key, replaced or as it is"}
}
_NOBODY: Final = Response(status_code=499)
"""For a client that has left."""


router: Final = APIRouter(prefix="/v1/tasks", tags=["tasks"])


@router.post(
    "",
    status_code=201,
    response_model=SubmittedTaskOut,
    responses=_FOUND | _CREATED | responses(*SUBMIT_ERRORS),
    openapi_extra=documented(TaskIn) | {"parameters": [_KEY_PARAMETER]},
)
async def submit_task(request: Request) -> Response:
    """Commit one task. It will run. 200: nothing was made, since another task holds its unique key."""
    given = await read_json(request)
    task = validated(TaskIn, given)
    try:
        submitted = await _submit(request, [task], key=_key(request, "one", given))
    except TasksRefused as error:
        raise invalid(*(FieldError(f"#/{flaw.field}", flaw.detail) for flaw in error.flaws)) from None
    except UniqueKeysHeld as error:
        raise _conflict(error, lambda _: "#/unique") from None
    except SubmissionDropped:
        return _NOBODY
    return _created(_render(submitted[0]), submitted, status=200 if _holds_key(submitted[0]) else 201)


@router.post(
    "/batch",
    status_code=201,
    response_model=SubmittedTasksOut,
    responses=_CREATED | responses(*SUBMIT_ERRORS),
    openapi_extra=documented(BatchIn) | {"parameters": [_KEY_PARAMETER]},
)
async def submit_batch(request: Request) -> Response:
    """Commit up to 10,000 tasks in one transaction, all or none. They come back in the order they were given in."""
    given = await read_json(request)
    wanted = validated(BatchIn, given).tasks
    try:
        submitted = await _submit(request, wanted, key=_key(request, "batch", given))
    except TasksRefused as error:
        raise invalid(
            *(FieldError(f"#/tasks/{flaw.index}/{flaw.field}", flaw.detail) for flaw in error.flaws)
        ) from None
    except UniqueKeysHeld as error:
        raise _conflict(error, lambda index: f"#/tasks/{index}/unique") from None
    except SubmissionDropped:
        return _NOBODY
    return _created(f'{{"tasks":[{",".join(map(_render, submitted))}]}}', submitted)


DIRECT: Final[Mapping[str, Endpoint]] = {"/v1/tasks": submit_task, "/v1/tasks/batch": submit_batch}


def _submit(
    request: Request, wanted: Sequence[TaskIn], *, key: IdempotencyKey | None
) -> Awaitable[list[SubmittedTask]]:
    dependencies: Dependencies = request.app.state.dependencies
    return dependencies.submitter.submit(wanted, key=key, caller_gone=partial(_disconnected, request))


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _key(request: Request, kind: str, given: Any) -> IdempotencyKey | None:
    """What the request's Idempotency-Key stands for. Raises InvalidRequest for a header that is none."""
    header = request.headers.get(KEY)
    if header is None:
        return None
    if not _KEY.fullmatch(header):
        raise invalid(FieldError(KEY, f"should match {KEY_PATTERN}: up to 200 visible ASCII characters"))
    return IdempotencyKey(header, request_hash(kind, given))


def _conflict(error: UniqueKeysHeld, pointer: Callable[[int], str]) -> UniqueConflict:
    flaws = [
        FieldError(pointer(held.index), f"is held by {f'task {held.task_id}' if held.task_id else 'another task here'}")
        for held in error.held[:MOST_ERRORS]
    ]
    return UniqueConflict(f"{flaws[0].pointer}: {flaws[0].detail}. Nothing was submitted.", errors=flaws)


def _holds_key(submitted: SubmittedTask) -> bool:
    return isinstance(submitted, Known) and submitted.fate is not Fate.REPLAYED


def _created(body: str, submitted: Sequence[SubmittedTask], *, status: int = 201) -> Response:
    replayed = isinstance(submitted[0], Known) and submitted[0].fate is Fate.REPLAYED  # all of them, or none
    return Response(body, status, {REPLAYED: "true"} if replayed else None, media_type="application/json")


def _render(submitted: SubmittedTask) -> str:
    """The JSON of a task, and what the submit did."""
    match submitted:
        case Created():
            return _render_new(submitted.task, submitted.created_at)
        case Known():
            known = ListedSubmittedTaskOut.model_validate(submitted.row | {"submission": submitted.fate})
            return known.model_dump_json(exclude_unset=True)
        case _:
            assert_never(submitted)


@lru_cache(maxsize=8)  # the tasks of a group have one moment
def _moment(created_at: datetime) -> str:
    return created_at.astimezone(UTC).isoformat().replace("+00:00", "Z")


_UNSTARTED: Final = (
    '"attempt":0,"worker":null,"result":null,"error":null,"first_started_at":null,"started_at":null,"finished_at":null,'
    '"cancelling":false,"cancel_reason":null,"result_expires_at":null,"progress":null,"schedule":null,'
    f'"submission":"{Fate.CREATED}"'
)
_SENT_OUT: Final = f'"status":"{Status.QUEUED}","dispatch":1,"due_at":null'
_PLAIN: Final = f'{_SENT_OUT},"retry":null,"result_ttl_seconds":null,"expires_at":null,"unique":null'


def _render_new(task: NewTask, created_at: datetime) -> str:
    """The JSON of a task as the statement left it: saves reading it back, and parsing its payload."""
    moment = _moment(created_at)
    # Types, queues, priorities and tags are made of characters that JSON takes as they are.
    tags = '["' + '","'.join(task.tags) + '"]' if task.tags else "[]"
    return (
        f'{{"id":"{task.id}","type":"{task.type}","queue":"{task.queue}","priority":"{task.priority}",'
        f'"payload":{task.payload},"tags":{tags},"max_retries":{_number(task.max_retries)},'
        f'"timeout_seconds":{_number(task.timeout_seconds)},"created_at":"{moment}","queued_at":"{moment}",'
        f"{_PLAIN if task.rich is None else _render_rich(task, created_at)},{_UNSTARTED}}}"
    )


def _render_rich(task: NewTask, created_at: datetime) -> str:
    state = _SENT_OUT
    if (due_at := task.due_at(created_at)) is not None:
        state = f'"status":"{Status.SCHEDULED}","dispatch":0,"due_at":"{_moment(due_at)}"'
    expires_at = task.expiry(created_at)
    expiry = "null" if expires_at is None else f'"{_moment(expires_at)}"'
    unique = "null" if task.unique is None else UniqueOut.model_validate_json(task.unique.stored).model_dump_json()
    return (
        f'{state},"retry":{task.retry or "null"},"result_ttl_seconds":{_number(task.result_ttl_seconds)},'
        f'"expires_at":{expiry},"unique":{unique}'
    )


def _number(value: float | None) -> str:
    """In JSON."""
    return "null" if value is None else repr(value)
