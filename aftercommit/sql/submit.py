"""``submit`` and ``submit_many``: one statement on the caller's connection, whichever driver it is of."""

import json
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from inspect import isawaitable
from typing import Any, Unpack, overload
from uuid import UUID

from aftercommit.sql.connections import AsyncConnection, SyncConnection
from aftercommit.sql.drivers import driver_of
from aftercommit.task_request import TaskOptions, TaskRequest

Ids = list[UUID]


@overload
def submit(
    connection: AsyncConnection,
    type: str,
    payload: Mapping[str, Any] | None = None,
    *,
    idempotency_key: str | None = None,
    **options: Unpack[TaskOptions],
) -> Coroutine[Any, Any, UUID]: ...
@overload
def submit(
    connection: AsyncConnection, request: TaskRequest, /, *, idempotency_key: str | None = None
) -> Coroutine[Any, Any, UUID]: ...
@overload
def submit(
    connection: SyncConnection,
    type: str,
    payload: Mapping[str, Any] | None = None,
    *,
    idempotency_key: str | None = None,
    **options: Unpack[TaskOptions],
) -> UUID: ...
@overload
def submit(connection: SyncConnection, request: TaskRequest, /, *, idempotency_key: str | None = None) -> UUID: ...
def submit(
    connection: AsyncConnection | SyncConnection,
    type: str | TaskRequest,
    payload: Mapping[str, Any] | None = None,
    *,
    idempotency_key: str | None = None,
    **options: Unpack[TaskOptions],
) -> UUID | Coroutine[Any, Any, UUID]:
    """Submit a task in the transaction that ``connection`` is in; its id, to be awaited where the connection is async.

    ``type`` may be a TaskRequest, which has payload and options. Raises TypeError and ValueError for what is no JSON,
    and the driver's own error for what the database refuses: its SQLSTATE says why, its column names the field.
    """
    request = type if isinstance(type, TaskRequest) else TaskRequest(type, payload or {}, options)
    sent = _send(connection, [request], idempotency_key)
    return _only(sent) if isinstance(sent, Coroutine) else sent[0]


@overload
def submit_many(
    connection: AsyncConnection, requests: Iterable[TaskRequest], *, idempotency_key: str | None = None
) -> Coroutine[Any, Any, Ids]: ...
@overload
def submit_many(
    connection: SyncConnection, requests: Iterable[TaskRequest], *, idempotency_key: str | None = None
) -> Ids: ...
def submit_many(
    connection: AsyncConnection | SyncConnection,
    requests: Iterable[TaskRequest],
    *,
    idempotency_key: str | None = None,
) -> Ids | Coroutine[Any, Any, Ids]:
    """Submit 1 to 10,000 tasks with one statement, all or none; their ids, in the same order. Otherwise like
    ``submit``."""
    return _send(connection, requests, idempotency_key)


def _send(
    connection: AsyncConnection | SyncConnection, requests: Iterable[TaskRequest], idempotency_key: str | None
) -> Ids | Coroutine[Any, Any, Ids]:
    tasks = json.dumps([request.fields() for request in requests], allow_nan=False)
    sent = driver_of(connection)(connection, (tasks, idempotency_key))
    return _awaited(sent) if isawaitable(sent) else _ids(sent)


def _ids(values: Sequence[Any]) -> Ids:
    """SQLAlchemy and Django give texts on some drivers."""
    return [value if isinstance(value, UUID) else UUID(str(value)) for value in values]


async def _awaited(sent: Awaitable[Sequence[Any]]) -> Ids:
    return _ids(await sent)


async def _only(sent: Awaitable[Ids]) -> UUID:
    (task_id,) = await sent
    return task_id
