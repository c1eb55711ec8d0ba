"""What goes in over HTTP, and what comes out beside tasks and schedules. Input is strict: nothing is coerced, unknown
fields are refused."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from aftercommit.core.queues import Priority
from aftercommit.core.states import Status
from aftercommit.server.submission.task_input import (
    DELAY_GIVEN,
    RUN_AT_GIVEN,
    DelaySeconds,
    Input,
    Moment,
    QueueName,
    Tag,
    TaskIn,
    TypeName,
    one_time,
    whole,
)

LARGEST_BATCH: Final = 10_000
LONGEST_WAIT_SECONDS: Final = 60
LONGEST_REASON: Final = 500
CURSOR_PATTERN: Final = r"^[0-9a-f]{32}$"
INCLUDE_PATTERN: Final = r"^(payload|result|error)(,(payload|result|error))*$"
KEY_PATTERN: Final = r"^[!-~]{1,200}$"


RowId = Annotated[int, Field(ge=1, le=2**63 - 1), BeforeValidator(whole)]


class BatchIn(Input):
    """Tasks to submit together: all or none."""

    tasks: list[TaskIn] = Field(min_length=1, max_length=LARGEST_BATCH)


class ErrorIn(Input):
    type: Annotated[str, Field(min_length=1, max_length=200, examples=["CardDeclined"])]
    message: Annotated[str, Field(max_length=4_000, examples=["the issuer said no"])]


class CompletionIn(Input):
    """An outcome recorded by hand: either a result or an error."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["result"]}, {"required": ["error"]}],
            "examples": [{"result": {"receipt": 17}}],
        }
    )

    result: Any = Field(default=None, description="Any JSON value up to API_MAX_PAYLOAD_BYTES")
    error: ErrorIn = Field(default=ErrorIn(type="none", message=""), description="Why it failed")

    @model_validator(mode="after")
    def _either(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("give either result or error")
        return self

    @property
    def failure(self) -> ErrorIn | None:
        return self.error if "error" in self.model_fields_set else None


class CancelIn(Input):
    """Why a task is to be cancelled."""

    reason: Annotated[str, Field(max_length=LONGEST_REASON)] | None = Field(
        default=None, description="Kept with the task", examples=["the customer withdrew the order"]
    )


class RescheduleIn(Input):
    """When a scheduled task is to be sent out: one of the two."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [RUN_AT_GIVEN, DELAY_GIVEN],
            "examples": [{"run_at": "2026-12-24T18:00:00+01:00"}],
        }
    )

    run_at: Moment | None = None
    delay_seconds: DelaySeconds | None = None

    @field_validator("delay_seconds")
    @classmethod
    def _one_time(cls, value: float | None, info: ValidationInfo) -> float | None:
        return one_time(value, info)

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.run_at is None and self.delay_seconds is None:
            raise ValueError("give run_at or delay_seconds")
        return self

    @property
    def delay(self) -> timedelta | None:
        return None if self.delay_seconds is None else timedelta(seconds=self.delay_seconds)


class RequeueIn(Input):
    """Which parked outbox rows to give to the relay again."""

    ids: Annotated[list[RowId], Field(min_length=1, max_length=10_000)] | None = Field(
        default=None, description="null: all of them", examples=[[17, 18]]
    )


class Output(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class WorkQueueOut(Output):
    """A work queue: what Postgres knows, then what the broker says (null when it does not)."""

    name: str = Field(examples=["tasks.high"])
    waiting: int = Field(description="Counted up to 1,000,000")
    running: int
    scheduled: int = Field(description="Counted up to 1,000,000")
    failed: int = Field(description="Counted up to 1,000,000")
    oldest_waiting_seconds: float | None
    ready: int | None
    unacknowledged: int | None = Field(description="Needs RABBITMQ_MANAGEMENT_URL")
    consumers: int | None
    problem: str | None = Field(description="Why nothing is sent to it: it exists with another structure, say")
    tuning: str | None = Field(
        description="How its tuning differs from what this release declares; it is used as it is"
    )


class QueuesOut(Output):
    queues: list[WorkQueueOut]
    dead_letters: int | None = Field(description="Messages in tasks.dlq")
    broker: str = Field(description="up, or what is wrong", examples=["up"])
    problems: dict[str, str] = Field(
        description="Every queue and exchange that cannot be used, retry queues and tasks.dlq included, and why"
    )
    counted_at: datetime = Field(description="A second ago at most, longer where counting takes long")


class OutboxRowOut(Output):
    id: int = Field(examples=[17])
    destination: str = Field(description="The RabbitMQ queue it is to go to first", examples=["tasks.retry.high.30"])
    work_queue: str = Field(examples=["tasks.high"])
    task_ids: list[UUID] = Field(description="Empty: a message that was not one of ours, on its way to tasks.dlq")
    attempts: int = Field(description="How often it came back", examples=[10])
    last_error: str | None = Field(examples=["no queue takes it: NO_ROUTE"])
    created_at: datetime
    failed_at: datetime


class OutboxOut(Output):
    unpublished: int = Field(description="Tasks that wait for the relay", examples=[0])
    oldest_age_seconds: float | None = Field(description="null when none waits", examples=[0.4])
    failed: int = Field(description="Tasks in parked rows", examples=[0])
    failed_rows: list[OutboxRowOut] = Field(description="Parked rows, oldest first")


class RequeuedOut(Output):
    requeued: int = Field(description="How many tasks were parked and wait again", examples=[2])


class ReadyOut(Output):
    status: str = Field(
        description="ready; degraded: tasks are taken, but the broker is down; or not ready", examples=["ready"]
    )
    postgres: str = Field(description="up, or what is wrong", examples=["up"])
    migrations: str = Field(description="up, or what is wrong", examples=["up"])
    broker: str = Field(description="up, or what is wrong", examples=["up"])


class TaskQuery(BaseModel):
    """Filters of a listing; all given ones hold."""

    model_config = ConfigDict(extra="forbid")

    status: Status | None = None
    type: TypeName | None = None
    queue: QueueName | None = None
    priority: Priority | None = None
    tag: Tag | None = None
    created_from: Moment | None = Field(default=None, description="Created at or after")
    created_before: Moment | None = Field(default=None, description="Created before")
    cursor: Annotated[str, Field(pattern=CURSOR_PATTERN)] | None = Field(
        default=None, description="next_cursor of the page before"
    )
    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    include: Annotated[str, Field(pattern=INCLUDE_PATTERN, examples=["payload,error"])] | None = Field(
        default=None,
        description="Which of payload, result and error to return, comma-separated; a page with them may be shorter",
    )

    @property
    def bulky(self) -> frozenset[str]:
        return frozenset(self.include.split(",")) if self.include else frozenset()


class WaitQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    wait: Annotated[float, Field(ge=0, le=LONGEST_WAIT_SECONDS)] = Field(
        default=0, description="Seconds to wait for the task to become final"
    )
