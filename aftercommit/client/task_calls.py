"""The calls that submit, look up and steer tasks."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, Unpack
from uuid import UUID, uuid4

from aftercommit.client.call import Call, Page, encode, paged, query
from aftercommit.client.results import Attempt, Result, SubmittedTask, Task
from aftercommit.errors import InvalidPayload
from aftercommit.task_request import TaskOptions, TaskRequest, written_out

TaskId: TypeAlias = UUID | str | Task

TASK: Final = "/v1/tasks/{task_id}"
KEY_PATTERN: Final = r"[!-~]{1,200}"


class _Submitted(Result):
    tasks: tuple[SubmittedTask, ...]


class _Listed(Result):
    tasks: tuple[Task, ...]
    next_cursor: str | None


class _Attempts(Result):
    attempts: tuple[Attempt, ...]


def submit(
    task: TaskRequest | str,
    payload: Mapping[str, Any] | None = None,
    /,
    *,
    idempotency_key: str | None = None,
    **options: Unpack[TaskOptions],
) -> Call[SubmittedTask]:
    """Submit a task: a request, such as ``handler.request(…)`` makes, or a type with its payload. ``options`` go before
    those of the request.

    The task is committed when this returns. It is tried again until then, which makes no second task; with an
    ``idempotency_key`` of your own, your repeating the call makes none either. Raises InvalidPayload for a payload that
    is not JSON, ApiError.
    """
    return Call(
        method="POST",
        path="/v1/tasks",
        body=encode_request(_request(task, payload, options)),
        idempotency_key=key_or_random(idempotency_key),
        repeatable=True,
        parse=SubmittedTask.model_validate_json,
    )


def _request(task: TaskRequest | str, payload: Mapping[str, Any] | None, options: TaskOptions) -> TaskRequest:
    if isinstance(task, str):
        return TaskRequest(task, payload or {}, options)
    if payload is not None:
        raise TypeError("a request has a payload already: give the type as a text, or no payload")
    return replace(task, options=TaskOptions(**{**task.options, **options}))


def submit_batch(
    tasks: Iterable[TaskRequest], *, idempotency_key: str | None = None
) -> Call[tuple[SubmittedTask, ...]]:
    """Submit up to 10,000 tasks in one transaction, all or none; they come back in this order. It is tried again, which
    makes no task twice. Raises InvalidPayload, ApiError."""
    return batch([encode_request(task) for task in tasks], idempotency_key=key_or_random(idempotency_key))


def key_or_random(key: str | None) -> str:
    """Raises ValueError for a key that the API does not take."""
    if key is None:
        return str(uuid4())
    if not re.fullmatch(KEY_PATTERN, key):
        raise ValueError(f"idempotency_key is {key!r}: give 1 to 200 visible ASCII characters")
    return key


def batch(encoded: Collection[bytes], *, idempotency_key: str) -> Call[tuple[SubmittedTask, ...]]:
    return Call(
        method="POST",
        path="/v1/tasks/batch",
        body=b'{"tasks":[' + b",".join(encoded) + b"]}",
        idempotency_key=idempotency_key,
        repeatable=True,
        parse=lambda content: _Submitted.model_validate_json(content).tasks,
    )


def encode_request(request: TaskRequest) -> bytes:
    """The JSON of a submit. Raises InvalidPayload."""
    fields = request.fields()
    try:
        return encode(fields)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPayload(f"the payload or an option of {request.type} is not JSON: {error}") from None


def get_task(task: TaskId, *, wait_seconds: float = 0.0) -> Call[Task]:
    """The task, after up to ``wait_seconds`` (60 at most) unless it is final before. Raises ApiError."""
    return Call(
        method="GET",
        path=TASK,
        names=_named(task),
        query=query(wait=wait_seconds or None),
        wait_seconds=wait_seconds,
        repeatable=True,
        parse=Task.model_validate_json,
    )


def list_tasks(
    *,
    status: str | None = None,
    type: str | None = None,
    queue: str | None = None,
    priority: str | None = None,
    tag: str | None = None,
    created_from: datetime | None = None,
    created_before: datetime | None = None,
    include: Collection[Literal["payload", "result", "error"]] = (),
    page_size: int = 100,
) -> Call[Page[Task]]:
    """All tasks that fit every given filter, the newest first, ``page_size`` (up to 1000) in a request. Payload, result
    and error are left out unless ``include`` names them. Raises ApiError."""

    def parse(content: bytes) -> tuple[tuple[Task, ...], str | None]:
        listed = _Listed.model_validate_json(content)
        return listed.tasks, listed.next_cursor

    filters = query(
        status=status,
        type=type,
        queue=queue,
        priority=priority,
        tag=tag,
        created_from=created_from and written_out("created_from", created_from),
        created_before=created_before and written_out("created_before", created_before),
        include=",".join(include) or None,
        limit=page_size,
    )
    return paged(Call(method="GET", path="/v1/tasks", query=filters, repeatable=True, parse=parse))


def list_attempts(task: TaskId) -> Call[tuple[Attempt, ...]]:
    """Every attempt of a task, the oldest first. Raises ApiError."""
    return Call(
        method="GET",
        path=f"{TASK}/attempts",
        names=_named(task),
        repeatable=True,
        parse=lambda content: _Attempts.model_validate_json(content).attempts,
    )


def cancel_task(task: TaskId, *, reason: str | None = None, wait_seconds: float = 0.0) -> Call[Task]:
    """Cancel a task. A running one is stopped: it is ``cancelling`` until its code has ended, which is waited for up to
    ``wait_seconds`` (60 at most). Repeated safely. Raises WrongState if it has ended in another way, ApiError."""
    return Call(
        method="POST",
        path=f"{TASK}/cancel",
        names=_named(task),
        query=query(wait=wait_seconds or None),
        body=None if reason is None else encode({"reason": reason}),
        wait_seconds=wait_seconds,
        repeatable=True,
        parse=Task.model_validate_json,
    )


def reschedule_task(task: TaskId, *, run_at: datetime | None = None, delay_seconds: float | None = None) -> Call[Task]:
    """Give a scheduled task another time, one of the two. Repeated safely. Raises WrongState, ApiError."""
    times = {"run_at": run_at and written_out("run_at", run_at), "delay_seconds": delay_seconds}
    given = {name: value for name, value in times.items() if value is not None}
    return _steer("reschedule", task, body=encode(given), repeatable=True)


def run_task_now(task: TaskId) -> Call[Task]:
    """Send a task at once that is scheduled or waits for a retry. Raises WrongState, ApiError."""
    return _steer("run-now", task)


def retry_task(task: TaskId, *, payload: Mapping[str, Any] | None = None) -> Call[Task]:
    """Send a final task again, with all its retries before it, and with another payload if one is given. Raises
    WrongState, UniqueConflict, ApiError."""
    return _steer("retry", task, body=None if payload is None else encode({"payload": dict(payload)}))


def complete_task(task: TaskId, *, result: Any = None) -> Call[Task]:
    """Record by hand that a task has succeeded. Raises WrongState, ApiError."""
    return _steer("complete", task, body=encode({"result": result}))


def fail_task(task: TaskId, *, type: str, message: str) -> Call[Task]:
    """Record by hand that a task has failed, with its error's type and message. Raises WrongState, ApiError."""
    return _steer("complete", task, body=encode({"error": {"type": type, "message": message}}))


def _steer(verb: str, task: TaskId, *, body: bytes | None = None, repeatable: bool = False) -> Call[Task]:
    return Call(
        method="POST",
        path=f"{TASK}/{verb}",
        names=_named(task),
        body=body,
        repeatable=repeatable,
        parse=Task.model_validate_json,
    )


def _named(task: TaskId) -> dict[str, str]:
    """Raises ValueError for a text that is no task's id."""
    match task:
        case Task():
            return {"task_id": str(task.id)}
        case UUID():
            return {"task_id": str(task)}
        case _:
            return {"task_id": str(UUID(task))}
