"""Queues over HTTP: what operators set of one, and how it stands."""

import json
from datetime import datetime
from typing import Annotated, Final, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from aftercommit.core import json_text
from aftercommit.core.queue_options import DeleteMode, Ordering, QueueOptions
from aftercommit.core.queues import Priority
from aftercommit.db.queues import QueueRow
from aftercommit.handler import LONGEST_TIMEOUT_SECONDS
from aftercommit.server.api.schemas import LONGEST_REASON, Output, WorkQueueOut
from aftercommit.server.submission.task_input import (
    LONGEST_DELAY_SECONDS,
    Input,
    PriorityName,
    QueueName,
    Retries,
    RetryIn,
    TypeName,
    not_crowded,
    whole,
)

LARGEST_COUNT = 2**31 - 1
LARGEST_RATE = 1_000_000

Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT), BeforeValidator(whole)]
Weight = Annotated[int, Field(ge=1, le=1_000), BeforeValidator(whole)]


_BURST_ALONE: Final[JsonDict] = {
    "required": ["burst"],
    "properties": {"burst": {"type": "number"}},
    "not": {"required": ["rate_per_second"], "properties": {"rate_per_second": {"type": "number"}}},
}
_WEIGHTS_ALONE: Final[JsonDict] = {
    "required": ["weights"],
    "properties": {"weights": {"type": "object"}},
    "not": {"required": ["ordering"], "properties": {"ordering": {"const": "weighted"}}},
}


class WeightsIn(Input):
    """Of the starts of a weighted queue, while all its priorities have work."""

    high: Weight = 6
    medium: Weight = 3
    low: Weight = 1


class QueueIn(Input):
    """All options of a queue. What is left out has its default: a PUT says everything."""

    model_config = ConfigDict(
        json_schema_extra={
            "not": {"anyOf": [_BURST_ALONE, _WEIGHTS_ALONE]},
            "examples": [{"description": "Mail to customers", "max_running": 5, "rate_per_second": 50}],
        }
    )

    description: Annotated[str, Field(max_length=500)] | None = None
    priorities: Annotated[list[PriorityName], Field(min_length=1, max_length=len(Priority))] | None = Field(
        default=None, description="Which it takes; null: all"
    )
    types: Annotated[list[TypeName], Field(min_length=1, max_length=1_000)] | None = Field(
        default=None, description="Which it takes; null: all"
    )
    max_waiting: Count | None = Field(
        default=None, description="A submit that would leave more unfinished tasks in it gets 429"
    )
    max_payload_bytes: Count | None = Field(default=None, description="Beside API_MAX_PAYLOAD_BYTES")
    max_retries: Retries | None = Field(default=None, description="Of tasks that say nothing; null: the handler's own")
    retry: Annotated[RetryIn, BeforeValidator(not_crowded)] | None = Field(
        default=None, description="Of tasks that say nothing; null: the handler's own"
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT_SECONDS)] | None = Field(
        default=None, description="Of tasks that say nothing; null: the handler's own"
    )
    ordering: Annotated[Ordering, Field(strict=False)] = Field(
        default=Ordering.STRICT,
        description="How a worker that serves all of its priorities takes from them: the higher first, or by weights",
    )
    weights: Annotated[WeightsIn, BeforeValidator(not_crowded)] | None = Field(
        default=None, description="Where weighted; null: 6, 3 and 1"
    )
    max_running: Count | None = Field(default=None, description="How many of its tasks run at a time, on all workers")
    rate_per_second: Annotated[float, Field(ge=0.001, le=LARGEST_RATE)] | None = Field(
        default=None, description="How many of its tasks start in a second, on all workers"
    )
    burst: Count | None = Field(
        default=None, description="How many may start at once after a rest; null: what starts in a second, at least 1"
    )

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if self.weights is not None and self.ordering is not Ordering.WEIGHTED:
            raise ValueError("weights stand beside ordering strict: say weighted, or leave them out")
        if self.burst is not None and self.rate_per_second is None:
            raise ValueError("burst stands without rate_per_second")
        return self

    def options(self, name: str) -> QueueOptions:
        return QueueOptions(
            name=name,
            description=None if self.description is None else json_text.storable(self.description),
            priorities=None if self.priorities is None else tuple(dict.fromkeys(map(str, self.priorities))),
            types=None if self.types is None else tuple(dict.fromkeys(self.types)),
            max_waiting=self.max_waiting,
            max_payload_bytes=self.max_payload_bytes,
            max_retries=self.max_retries,
            retry=None if self.retry is None else json_text.dump(self.retry.model_dump(exclude_none=True)),
            timeout_seconds=self.timeout_seconds,
            ordering=self.ordering,
            weights=None if self.weights is None else (self.weights.high, self.weights.medium, self.weights.low),
            max_running=self.max_running,
            rate_per_second=self.rate_per_second,
            burst=self.burst,
        )


class PauseIn(Input):
    """Who pauses a queue, or why."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"by": "Ada: the mail provider is down"}]})

    by: Annotated[str, Field(max_length=LONGEST_REASON)] | None = Field(
        default=None, description="Kept, and shown where tasks wait", examples=["Ada: the mail provider is down"]
    )


class PurgeIn(Input):
    """Which of the tasks that wait in a queue are to be cancelled; all that is given must hold."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "email.send", "older_than_seconds": 3600}]})

    priority: PriorityName | None = None
    type: TypeName | None = None
    older_than_seconds: Annotated[float, Field(ge=0, le=LONGEST_DELAY_SECONDS)] = Field(
        default=0, description="Created so long ago"
    )
    dry_run: bool = Field(default=False, description="Only count them")


class PurgeOut(Output):
    id: UUID | None = Field(description="null: it was a dry run")
    queue: str = Field(examples=["emails"])
    matching: int | None = Field(
        description="How many of its first 10,000 unfinished tasks fit when it was asked for; null: not counted"
    )
    cancelled: int = Field(description="So far")
    asked_at: datetime | None
    ended_at: datetime | None = Field(description="null: it is under way, or was a dry run")


class DeleteQuery(BaseModel):
    """What becomes of unfinished tasks; without one of the two, a queue that has some is not deleted."""

    model_config = ConfigDict(extra="forbid")

    move_to: QueueName | None = Field(default=None, description="They go to this queue")
    cancel: bool = Field(default=False, description="They are cancelled")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.move_to is not None and self.cancel:
            raise ValueError("give move_to or cancel, not both")
        return self

    @property
    def mode(self) -> DeleteMode:
        if self.move_to is not None:
            return DeleteMode.MOVE
        return DeleteMode.CANCEL if self.cancel else DeleteMode.REFUSE


class PausedOut(Output):
    since: datetime
    by: str | None


class DeletingOut(Output):
    since: datetime
    mode: DeleteMode = Field(description="What becomes of unfinished tasks")
    move_to: str | None


class QueueOut(Output):
    """A queue, as it was set."""

    name: str = Field(examples=["emails"])
    is_default: bool = Field(description="Whether submits that name no queue go there")
    description: str | None
    priorities: list[str] | None
    types: list[str] | None
    max_waiting: int | None
    max_payload_bytes: int | None
    max_retries: int | None
    retry: RetryIn | None
    timeout_seconds: float | None
    ordering: Ordering
    weights: WeightsIn | None
    max_running: int | None
    rate_per_second: float | None
    burst: int | None
    paused: PausedOut | None = Field(description="null: it is not paused")
    deleting: DeletingOut | None = Field(description="null: it is not being deleted")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: QueueRow, *, default: str) -> Self:
        options = row.options
        high, medium, low = options.weights or (0, 0, 0)
        return cls(
            name=options.name,
            is_default=options.name == default,
            description=options.description,
            priorities=None if options.priorities is None else list(options.priorities),
            types=None if options.types is None else list(options.types),
            max_waiting=options.max_waiting,
            max_payload_bytes=options.max_payload_bytes,
            max_retries=options.max_retries,
            retry=None if options.retry is None else RetryIn.model_validate(json.loads(options.retry)),
            timeout_seconds=options.timeout_seconds,
            ordering=options.ordering,
            weights=None if options.weights is None else WeightsIn(high=high, medium=medium, low=low),
            max_running=options.max_running,
            rate_per_second=options.rate_per_second,
            burst=options.burst,
            paused=None if row.paused_at is None else PausedOut(since=row.paused_at, by=row.paused_by),
            deleting=None
            if row.deleting_at is None
            else DeletingOut(
                since=row.deleting_at, mode=DeleteMode(row.delete_mode or DeleteMode.REFUSE), move_to=row.move_to
            ),
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


class QueueDetailOut(QueueOut):
    work_queues: list[WorkQueueOut] = Field(
        description="What stands in each of its priorities, as GET /v1/queues has it"
    )
