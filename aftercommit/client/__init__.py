"""Call a service from Python: ``Client`` blocks, ``AsyncClient`` is awaited.

::

    from aftercommit import Client

    with Client("http://127.0.0.1:8000") as client:
        task = client.submit("email.send", {"to": "ada@example.com"})
        print(client.result(task, timeout=60))
"""

from aftercommit.client.async_client import AsyncClient
from aftercommit.client.errors import (
    ApiError,
    BodyTimeout,
    BodyTooLarge,
    DatabaseTimeout,
    DatabaseUnavailable,
    FieldError,
    IdempotencyKeyReused,
    InternalError,
    InvalidRequest,
    MalformedRequest,
    MethodNotAllowed,
    NotFinished,
    NotFound,
    Overloaded,
    ScheduleExists,
    ScheduleNotFound,
    ScheduleRefused,
    ServiceUnavailable,
    TaskNotFound,
    TaskNotSucceeded,
    TasksDeleted,
    TypeNotFound,
    UnexpectedAnswer,
    UniqueConflict,
    UnsupportedMediaType,
    WrongState,
)
from aftercommit.client.results import (
    Attempt,
    Backfilled,
    Outbox,
    OutboxRow,
    Progress,
    Queue,
    Queues,
    Readiness,
    Schedule,
    ScheduleRun,
    SubmittedTask,
    Task,
    TaskError,
    TaskType,
    TypeOptions,
    UniqueKey,
)
from aftercommit.client.sync_client import Client
from aftercommit.client.task_calls import TaskId
from aftercommit.task_request import TaskOptions, TaskRequest, UniqueOptions

__all__ = [
    "Client",
    "AsyncClient",
    "TaskRequest",
    "TaskOptions",
    "UniqueOptions",
    "TaskId",
    "Task",
    "SubmittedTask",
    "TaskError",
    "Progress",
    "UniqueKey",
    "Attempt",
    "Schedule",
    "ScheduleRun",
    "Backfilled",
    "TaskType",
    "TypeOptions",
    "Queues",
    "Queue",
    "Outbox",
    "OutboxRow",
    "Readiness",
    "ApiError",
    "FieldError",
    "InvalidRequest",
    "MalformedRequest",
    "UnsupportedMediaType",
    "BodyTooLarge",
    "BodyTimeout",
    "NotFound",
    "MethodNotAllowed",
    "TaskNotFound",
    "WrongState",
    "UniqueConflict",
    "IdempotencyKeyReused",
    "TasksDeleted",
    "TypeNotFound",
    "ScheduleNotFound",
    "ScheduleExists",
    "ScheduleRefused",
    "InternalError",
    "Overloaded",
    "DatabaseUnavailable",
    "DatabaseTimeout",
    "UnexpectedAnswer",
    "ServiceUnavailable",
    "NotFinished",
    "TaskNotSucceeded",
]
