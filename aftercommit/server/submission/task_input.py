"""A task as a client describes it, checked strictly: nothing is coerced, unknown fields are refused."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict

from aftercommit.core import json_text
from aftercommit.core.queues import Priority
from aftercommit.errors import LONGEST_AFTER_SECONDS
from aftercommit.handler import LONGEST_TIMEOUT_SECONDS, TYPE_PATTERN
from aftercommit.retry_delays import (
    DEFAULT_CAP_SECONDS,
    DEFAULT_FACTOR,
    DEFAULT_JITTER,
    LARGEST_FACTOR,
    MOST_DELAYS,
)
from aftercommit.server.submission.unique_input import UniqueIn
from aftercommit.task_request import QUEUE_PATTERN

LONGEST_DELAY_SECONDS: Final = 100 * 366 * 86_400

MOST_FIELDS: Final = 50
"""More than an object of any request has. Of unknown fields each is a flaw."""

TAG_PATTERN: Final = r"^[A-Za-z0-9_.:/@+=#-]{1,100}$"


def whole(value: Any) -> Any:
    """``value``, as an integer where it is a whole number: JSON knows one kind of number, and 5.0 is as whole as 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _written_out(value: Any) -> Any:
    if not isinstance(value, str) or not re.match(r"\d{4}-\d\d-\d\d[Tt ]", value):
        raise ValueError("is not a date and time with a time zone: write 2026-01-31T12:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies outside the years 1 to 9999 in UTC") from None


def too_large(size: int, limit: int) -> str:
    """What is wrong with a payload of ``size`` bytes, of which ``limit`` are allowed."""
    return f"has {size} bytes; API_MAX_PAYLOAD_BYTES allows {limit}"


def not_crowded(value: Any) -> Any:
    """The validator of an object with known fields: of too many each would be a flaw."""
    if isinstance(value, dict) and len(value) > MOST_FIELDS:
        raise ValueError(f"has {len(value)} fields, far more than there are")
    return value


def one_time(value: float | None, info: ValidationInfo) -> float | None:
    """The validator of a ``delay_seconds`` that stands after a ``run_at``."""
    if value is not None and info.data.get("run_at") is not None:
        raise ValueError("stands beside run_at: give one of them")
    return value


Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_written_out), AfterValidator(_in_utc)]
DelaySeconds = Annotated[float, Field(ge=0, le=LONGEST_DELAY_SECONDS)]
Retries = Annotated[int, Field(ge=0, le=1000), BeforeValidator(whole)]
TypeName = Annotated[str, Field(pattern=TYPE_PATTERN, examples=["http.request"])]
QueueName = Annotated[str, Field(pattern=QUEUE_PATTERN, examples=["tasks"])]
PriorityName = Annotated[Priority, Field(strict=False)]
Tag = Annotated[str, Field(pattern=TAG_PATTERN, examples=["order:4711"])]


RUN_AT_GIVEN: Final[JsonDict] = {"required": ["run_at"], "properties": {"run_at": {"type": "string"}}}
DELAY_GIVEN: Final[JsonDict] = {"required": ["delay_seconds"], "properties": {"delay_seconds": {"type": "number"}}}
"""For the JSON schema of what has both fields and takes one of them."""

EXPIRES_AT_GIVEN: Final[JsonDict] = {"required": ["expires_at"], "properties": {"expires_at": {"type": "string"}}}
EXPIRES_IN_GIVEN: Final[JsonDict] = {
    "required": ["expires_in_seconds"],
    "properties": {"expires_in_seconds": {"type": "number"}},
}


class Input(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


WaitSeconds = Annotated[float, Field(ge=0, le=LONGEST_AFTER_SECONDS)]
AnyWaitSeconds = Annotated[float, Field(gt=0, le=LONGEST_AFTER_SECONDS)]


class BackoffIn(Input):
    """The nth retry waits initial_seconds × factor ** (n - 1), at most cap_seconds, less a random part."""

    initial_seconds: AnyWaitSeconds = Field(examples=[1])
    factor: Annotated[float, Field(ge=1, le=LARGEST_FACTOR)] = DEFAULT_FACTOR
    cap_seconds: AnyWaitSeconds = DEFAULT_CAP_SECONDS
    jitter: Annotated[float, Field(ge=0, le=1)] = Field(
        default=DEFAULT_JITTER, description="How large the random part may be, from 0 to 1, all of the wait"
    )


class RetryIn(Input):
    """How long a task waits before its retries: one of the two."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["delays_seconds"], "properties": {"delays_seconds": {"type": "array"}}},
                {"required": ["backoff"], "properties": {"backoff": {"type": "object"}}},
            ],
            "examples": [{"delays_seconds": [5, 30, 120]}],
        }
    )

    delays_seconds: Annotated[list[WaitSeconds], Field(min_length=1, max_length=MOST_DELAYS)] | None = Field(
        default=None, description="Before the first retry, the second and so on; the last one repeats"
    )
    backoff: Annotated[BackoffIn, BeforeValidator(not_crowded)] | None = None

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.delays_seconds is None) == (self.backoff is None):
            raise ValueError("give either delays_seconds or backoff")
        return self


class TaskTemplate(Input):
    """What a task is, whenever it is submitted."""

    type: TypeName
    # Of a plain default pydantic makes a deep copy for every task, which takes longer than to check the task.
    payload: dict[str, Any] = Field(
        default_factory=dict,
        json_schema_extra={"default": {}},
        description="Any JSON object up to API_MAX_PAYLOAD_BYTES. No NUL characters, no lone surrogates.",
        examples=[{"order": 4711}],
    )
    queue: QueueName | None = Field(
        default=None, description="One of those that GET /v1/queues lists; null: the first of QUEUES"
    )
    priority: PriorityName = Priority.MEDIUM
    max_retries: Retries | None = Field(
        default=None, description="Attempts after the first; null: the handler's own, or MAX_RETRIES"
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT_SECONDS)] | None = Field(
        default=None, description="Bound of one attempt; null: the handler's own, or TASK_TIMEOUT_SECONDS"
    )
    tags: list[Tag] = Field(default_factory=list, json_schema_extra={"default": []}, max_length=20)
    retry: Annotated[RetryIn, BeforeValidator(not_crowded)] | None = Field(
        default=None, description="Its own delays; null: the handler's, or RETRY_DELAYS_SECONDS"
    )
    result_ttl_seconds: Annotated[float, Field(gt=0, le=LONGEST_DELAY_SECONDS)] | None = Field(
        default=None, description="Its result is deleted so long after it has succeeded; null: with the task"
    )
    expires_in_seconds: Annotated[float, Field(ge=0.001, le=LONGEST_DELAY_SECONDS)] | None = Field(
        default=None, description="Its deadline, so long after it was submitted"
    )

    @property
    def expires_in(self) -> timedelta | None:
        return None if self.expires_in_seconds is None else timedelta(seconds=self.expires_in_seconds)

    @property
    def retry_text(self) -> str | None:
        """``retry`` as it is stored, in JSON: with the defaults of its day."""
        return None if self.retry is None else json_text.dump(self.retry.model_dump(exclude_none=True))


class TaskIn(TaskTemplate):
    """A task to submit."""

    model_config = ConfigDict(
        json_schema_extra={
            "not": {"anyOf": [{"allOf": [RUN_AT_GIVEN, DELAY_GIVEN]}, {"allOf": [EXPIRES_AT_GIVEN, EXPIRES_IN_GIVEN]}]},
            "examples": [
                {
                    "type": "http.request",
                    "payload": {"method": "POST", "url": "https://example.com/hook", "json": {"order": 4711}},
                    "priority": "high",
                    "max_retries": 5,
                    "tags": ["order:4711"],
                }
            ],
        }
    )

    run_at: Moment | None = Field(default=None, description="Not before; a moment that has passed: at once")
    delay_seconds: DelaySeconds | None = Field(default=None, description="Not before so long from now")
    expires_at: Moment | None = Field(
        default=None, description="Its deadline: it is expired unless it has ended by then. After run_at, and not past"
    )
    unique: Annotated[UniqueIn, BeforeValidator(not_crowded)] | None = Field(
        default=None, description="What must not exist twice at the same time"
    )

    @field_validator("delay_seconds")
    @classmethod
    def _one_time(cls, value: float | None, info: ValidationInfo) -> float | None:
        return one_time(value, info)

    @field_validator("expires_at")
    @classmethod
    def _one_deadline(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        if value is not None and info.data.get("expires_in_seconds") is not None:
            raise ValueError("stands beside expires_in_seconds: give one of them")
        return value

    @property
    def delay(self) -> timedelta | None:
        return None if self.delay_seconds is None else timedelta(seconds=self.delay_seconds)


class ResubmitIn(Input):
    """What a final task is sent out again with."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"payload": {"order": 4711}}]})

    payload: dict[str, Any] = Field(
        default_factory=dict,
        description="In place of the payload that it has, which the attempts keep. As in a submit",
    )

    @property
    def new_payload(self) -> dict[str, Any] | None:
        return self.payload if "payload" in self.model_fields_set else None
