"""``POST /v1/tasks``: from a request to committed rows; and what an Idempotency-Key means."""

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from uuid_utils.compat import uuid7

from aftercommit.core import json_text
from aftercommit.core.errors import FieldError, IdempotencyKeyReused
from aftercommit.core.states import Status
from aftercommit.db import idempotency, tasks
from aftercommit.db.submit import IdempotencyKey, NewTask, Submission
from aftercommit.server.api.body import documented, json_body
from aftercommit.server.api.dependencies import Dependencies
from aftercommit.server.api.problems import SUBMIT_ERRORS, invalid, responses
from aftercommit.server.api.schemas import KEY_PATTERN, BatchIn, TaskIn, TaskOut, TasksOut

KEY: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"

_KEY = re.compile(KEY_PATTERN)
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


class DirectRoute(APIRoute):
    """A function that makes its response from the request by itself, documented like any other: FastAPI's way from
    one to the other takes longer than all the rest of a submit."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]  # an Awaitable does
        return self.endpoint


router: Final = APIRouter(prefix="/v1/tasks", tags=["tasks"], route_class=DirectRoute)

_read_task = json_body(TaskIn)
_read_batch = json_body(BatchIn)


@router.post(
    "",
    status_code=201,
    response_model=TaskOut,
    responses=_CREATED | responses(*SUBMIT_ERRORS),
    openapi_extra=documented(TaskIn) | {"parameters": [_KEY_PARAMETER]},
)
async def submit_task(request: Request) -> Response:
    """Commit one task. It will run."""
    (task,), headers = await _submit(request, [await _read_task(request)], batch=False)
    return Response(task, 201, headers, media_type="application/json")


@router.post(
    "/batch",
    status_code=201,
    response_model=TasksOut,
    responses=_CREATED | responses(*SUBMIT_ERRORS),
    openapi_extra=documented(BatchIn) | {"parameters": [_KEY_PARAMETER]},
)
async def submit_batch(request: Request) -> Response:
    """Commit up to 10,000 tasks in one transaction, all or none. They come back in the order they were given in."""
    submitted, headers = await _submit(request, (await _read_batch(request)).tasks, batch=True)
    return Response(f'{{"tasks":[{",".join(submitted)}]}}', 201, headers, media_type="application/json")


async def _submit(request: Request, wanted: Sequence[TaskIn], *, batch: bool) -> tuple[list[str], dict[str, str]]:
    """The tasks as JSON, and the headers that say more."""
    dependencies: Dependencies = request.app.state.dependencies
    key = request_key(request.headers.get(KEY), "batch" if batch else "one", wanted)
    new = prepare(wanted, dependencies, batch=batch)
    created_at = await dependencies.group_commit.submit(Submission(new, key))
    if created_at is not None:
        moment = created_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return [render(task, moment) for task in new], {}
    assert key is not None
    return [task.model_dump_json() for task in await replay(dependencies, key)], {REPLAYED: "true"}


def prepare(wanted: Sequence[TaskIn], dependencies: Dependencies, *, batch: bool) -> list[NewTask]:
    """Give each task its id. Raises InvalidRequest naming the field, and in a batch its index."""
    flaws: list[FieldError] = []
    new = []
    settings = dependencies.settings
    for index, task in enumerate(wanted):
        pointer = f"#/tasks/{index}" if batch else "#"
        payload = json_text.dump(task.payload)
        queue = task.queue or settings.queues[0]
        if (size := len(payload.encode())) > settings.api_max_payload_bytes:
            limit = settings.api_max_payload_bytes
            flaws.append(FieldError(f"{pointer}/payload", f"has {size} bytes; API_MAX_PAYLOAD_BYTES allows {limit}"))
        if queue not in settings.queues:
            known = ", ".join(settings.queues)
            flaws.append(FieldError(f"{pointer}/queue", f"{queue!r} is not one of QUEUES: {known}"))
        new.append(
            NewTask(
                id=uuid7(),
                type=task.type,
                payload=payload,
                queue=queue,
                priority=task.priority,
                max_retries=task.max_retries,
                timeout_seconds=task.timeout_seconds,
                tags=tuple(dict.fromkeys(task.tags)),
            )
        )
    if flaws:
        raise invalid(*flaws)
    return new


def request_key(header: str | None, path: str, wanted: Sequence[TaskIn]) -> IdempotencyKey | None:
    """What a request's Idempotency-Key stands for: its path and what it asks for, however that is spelt.

    Raises InvalidRequest for one that is none.
    """
    if header is None:
        return None
    if not _KEY.fullmatch(header):
        raise invalid(FieldError(KEY, f"should match {KEY_PATTERN}: up to 200 visible ASCII characters"))
    asked = json.dumps([path, [task.model_dump(mode="json") for task in wanted]], sort_keys=True)
    return IdempotencyKey(header, hashlib.sha256(asked.encode()).digest())


async def replay(dependencies: Dependencies, key: IdempotencyKey) -> list[TaskOut]:
    """The tasks of the earlier request that holds ``key``, as they stand now. Raises IdempotencyKeyReused."""
    fetch = dependencies.database.fetch
    held = await idempotency.get(fetch, key.key)
    if held is None or held["request_hash"] != key.request_hash:
        raise IdempotencyKeyReused(
            f"Idempotency-Key {key.key!r} came with another body before. Use a new key for a new request."
        )
    rows = {row["id"]: row for row in await tasks.get(fetch, held["task_ids"])}
    return [TaskOut.model_validate(rows[task_id]) for task_id in held["task_ids"] if task_id in rows]


_UNSTARTED: Final = (
    f'"status":"{Status.QUEUED}","dispatch":1,"attempt":0,"worker":null,"result":null,"error":null,"due_at":null,'
    '"first_started_at":null,"started_at":null,"finished_at":null'
)


def render(task: NewTask, moment: str) -> str:
    """The JSON of a TaskOut for a task as the statement left it: saves reading it back, and parsing its payload."""
    # Types, queues, priorities and tags are made of characters that JSON takes as they are.
    tags = '["' + '","'.join(task.tags) + '"]' if task.tags else "[]"
    return (
        f'{{"id":"{task.id}","type":"{task.type}","queue":"{task.queue}","priority":"{task.priority}",'
        f'"payload":{task.payload},"tags":{tags},"max_retries":{_number(task.max_retries)},'
        f'"timeout_seconds":{_number(task.timeout_seconds)},"created_at":"{moment}","queued_at":"{moment}",'
        f"{_UNSTARTED}}}"
    )


def _number(value: float | None) -> str:
    """In JSON."""
    return "null" if value is None else repr(value)
