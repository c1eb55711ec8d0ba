"""Every error that the service tells somebody about: a stable code, an HTTP status, a sentence saying what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with the input: ``pointer`` is a JSON pointer into the body, or a parameter's name."""

    pointer: str
    detail: str


class AftercommitError(Exception):
    code: ClassVar[str] = "internal-error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong on our side"
    retry_after_seconds: ClassVar[int | None] = None

    def __init__(self, detail: str, *, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)


class InvalidRequest(AftercommitError):
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


class Overloaded(AftercommitError):
    """The process holds as much work as it may. Nothing was done."""

    code = "overloaded"
    status = 503
    title = "The service has too much to do right now"
    retry_after_seconds = 2


class DatabaseUnavailable(AftercommitError):
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
    """The broker is away, blocked or silent. Never the fault of a message: nobody counts an attempt for it."""

    code = "broker-unavailable"
    status = 503
    title = "The broker cannot be reached"
    retry_after_seconds = 2


class MalformedMessage(AftercommitError):
    """A message on a work queue that is not one of ours. Its text becomes the dead letter's reason."""

    code = "malformed-message"
