"""Every error that the service tells somebody about. One tree: each kind has a stable machine code, an HTTP status and
a title; each error a sentence in ``detail`` that says what is wrong and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with the input: ``pointer`` is a JSON pointer into the body, or a parameter's name."""

    pointer: str
    detail: str


class AftercommitError(Exception):
    """``code`` never changes: clients branch on it. ``detail`` is for people, and never holds a payload or a secret.

    An error that was caused by another one is raised ``from`` it: the log shows both.
    """

    code: ClassVar[str] = "internal-error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong on our side"
    retry_after_seconds: ClassVar[int | None] = None
    """Set where the same request may succeed later."""

    def __init__(self, detail: str, *, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)


# --- The request is wrong: sending it again does not help.


class InvalidRequest(AftercommitError):
    """``errors`` names the fields."""

    code = "invalid-request"
    status = 422
    title = "The request does not fit"


class MalformedRequest(AftercommitError):
    code = "malformed-request"
    status = 400
    title = "The request cannot be read"


class UnsupportedMediaType(AftercommitError):
    code = "unsupported-media-type"
    status = 415
    title = "The request body is not declared as JSON"


class BodyTooLarge(AftercommitError):
    code = "body-too-large"
    status = 413
    title = "The request body is too large"


class BodyTimeout(AftercommitError):
    code = "body-timeout"
    status = 408
    title = "The request body did not come to its end"


class IdempotencyKeyReused(AftercommitError):
    code = "idempotency-key-reused"
    status = 422
    title = "This Idempotency-Key came with another request before"


class TasksDeleted(AftercommitError):
    """The tasks that a key stands for were deleted by retention."""

    code = "tasks-deleted"
    status = 410
    title = "The tasks of this Idempotency-Key were deleted"


class TaskNotFound(AftercommitError):
    code = "task-not-found"
    status = 404
    title = "There is no such task"


class WrongState(AftercommitError):
    code = "wrong-state"
    status = 409
    title = "The task's state does not allow this"


class UniqueConflict(AftercommitError):
    code = "unique-conflict"
    status = 409
    title = "Another task holds the unique key"


class ScheduleNotFound(AftercommitError):
    code = "schedule-not-found"
    status = 404
    title = "There is no such schedule"


class TypeNotFound(AftercommitError):
    code = "type-not-found"
    status = 404
    title = "No worker has declared this type"


class QueueNotFound(AftercommitError):
    code = "queue-not-found"
    status = 404
    title = "There is no such queue"


class PurgeNotFound(AftercommitError):
    code = "purge-not-found"
    status = 404
    title = "There is no such purge"


class QueueInUse(AftercommitError):
    """Something stands against what was asked of a queue: unfinished tasks, its deletion, or that it is the default."""

    code = "queue-in-use"
    status = 409
    title = "The queue does not allow this now"


class WorkerNotFound(AftercommitError):
    code = "worker-not-found"
    status = 404
    title = "There is no such worker"


class WorkerLost(AftercommitError):
    code = "worker-lost"
    status = 409
    title = "The worker's lease has lapsed"


class ScheduleExists(AftercommitError):
    code = "schedule-exists"
    status = 409
    title = "There is a schedule of this name"


class ScheduleRefused(AftercommitError):
    """What fitted when the schedule was made no longer does, for instance since a queue is gone."""

    code = "schedule-refused"
    status = 409
    title = "The task of this schedule cannot be submitted any more"


# --- A server is away or busy: the same request may succeed later.


class QueueFull(AftercommitError):
    """A queue holds as many tasks as its ``max_waiting`` says. Nothing was submitted."""

    code = "queue-full"
    status = 429
    title = "The queue is full"
    retry_after_seconds = 5


class Overloaded(AftercommitError):
    """The process holds as much work as it may. Nothing was done."""

    code = "overloaded"
    status = 503
    title = "The service has too much to do right now"
    retry_after_seconds = 2


class DatabaseUnavailable(AftercommitError):
    """Postgres is away, or cannot serve now: ``detail`` says which, and ``__cause__`` is the driver's error."""

    code = "database-unavailable"
    status = 503
    title = "The database cannot serve this request now"
    retry_after_seconds = 2


class DatabaseTimeout(AftercommitError):
    """A statement took too long, or waited too long for a lock. Postgres is there."""

    code = "database-timeout"
    status = 503
    title = "The database took too long"
    retry_after_seconds = 2


class BrokerUnavailable(AftercommitError):
    """RabbitMQ is away, refuses us, is blocked or silent: ``detail`` says which. Never the fault of a message: nobody
    counts an attempt for it."""

    code = "broker-unavailable"
    status = 503
    title = "The broker cannot serve this now"
    retry_after_seconds = 2


# --- Between processes.


class MalformedMessage(AftercommitError):
    """A message on a work queue that is not one of ours. Its text becomes the dead letter's reason."""

    code = "malformed-message"
    title = "The message is not one of ours"
