"""What the client raises: an exception for each ``code`` of the API's problems, all of them an ``ApiError``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final

from aftercommit.client.results import Task


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with a request: ``pointer`` is a JSON pointer into its body, or a parameter's name."""

    pointer: str
    detail: str


class ApiError(Exception):
    """The service refused a request, or could not be asked.

    ``code`` is stable: branch on it, or on the class; a code that this client does not know is an ApiError itself.
    ``status`` is that of the answer, None when there was none. ``detail`` is for people, and ``errors`` has an entry
    for each field that is to blame. ``retry_after_seconds`` is what the answer's ``Retry-After`` asked for.
    """

    CODE: ClassVar[str] = "http-error"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        status: int | None = None,
        errors: Sequence[FieldError] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.CODE
        self.status = status
        self.errors = tuple(errors)
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


# --- The request is wrong, or comes at the wrong time: sending it again does not help.


class InvalidRequest(ApiError):
    CODE = "invalid-request"


class MalformedRequest(ApiError):
    CODE = "malformed-request"


class UnsupportedMediaType(ApiError):
    CODE = "unsupported-media-type"


class BodyTooLarge(ApiError):
    CODE = "body-too-large"


class NotFound(ApiError):
    """There is no such path; the URL may be that of something else."""

    CODE = "not-found"


class MethodNotAllowed(ApiError):
    CODE = "method-not-allowed"


class TaskNotFound(ApiError):
    CODE = "task-not-found"


class WrongState(ApiError):
    CODE = "wrong-state"


class UniqueConflict(ApiError):
    """Another task holds the unique key, which was to be rejected then."""

    CODE = "unique-conflict"


class IdempotencyKeyReused(ApiError):
    CODE = "idempotency-key-reused"


class TasksDeleted(ApiError):
    CODE = "tasks-deleted"


class ScheduleNotFound(ApiError):
    CODE = "schedule-not-found"


class TypeNotFound(ApiError):
    CODE = "type-not-found"


class QueueNotFound(ApiError):
    CODE = "queue-not-found"


class PurgeNotFound(ApiError):
    CODE = "purge-not-found"


class QueueInUse(ApiError):
    """It has unfinished tasks, is being deleted, or is the default."""

    CODE = "queue-in-use"


class QueueFull(ApiError):
    """A queue has as many unfinished tasks as its ``max_waiting`` says. Nothing was submitted."""

    CODE = "queue-full"


class WorkerNotFound(ApiError):
    CODE = "worker-not-found"


class WorkerLost(ApiError):
    """Its lease has lapsed: there is nobody to drain."""

    CODE = "worker-lost"


class ScheduleExists(ApiError):
    CODE = "schedule-exists"


class ScheduleRefused(ApiError):
    CODE = "schedule-refused"


# --- The service is at fault, or busy. The client has tried again where that does no harm.


class InternalError(ApiError):
    CODE = "internal-error"


class BodyTimeout(ApiError):
    CODE = "body-timeout"


class Overloaded(ApiError):
    CODE = "overloaded"


class DatabaseUnavailable(ApiError):
    CODE = "database-unavailable"


class DatabaseTimeout(ApiError):
    CODE = "database-timeout"


class UnexpectedAnswer(ApiError):
    """A success whose body is not what this API answers: something else may stand at the URL."""

    CODE = "unexpected-answer"


class ServiceUnavailable(ApiError):
    """No answer that counts came within the client's ``timeout``; ``__cause__`` is what happened last.

    Whether a submit took effect is unknown then. Repeating it with ``idempotency_key`` makes no second task.
    """

    CODE = "service-unavailable"

    def __init__(self, detail: str, *, status: int | None = None, idempotency_key: str | None = None) -> None:
        super().__init__(detail, status=status)
        self.idempotency_key = idempotency_key


class NotFinished(TimeoutError):
    """A task did not end within the ``timeout`` of a wait. ``task`` is as it was seen last."""

    def __init__(self, detail: str, task: Task | None = None) -> None:
        super().__init__(detail)
        self.task = task


class TaskNotSucceeded(Exception):
    """The result was asked for of a task that failed, was cancelled or expired: ``task``."""

    def __init__(self, detail: str, task: Task | None = None) -> None:
        super().__init__(detail)
        self.task = task


BY_CODE: Final[Mapping[str, type[ApiError]]] = MappingProxyType(
    {
        kind.CODE: kind
        for kind in ApiError.__subclasses__()
        if kind not in (UnexpectedAnswer, ServiceUnavailable)  # the client's own
    }
)
