"""What describes tasks and their attempts in answers."""

import json
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BeforeValidator, ConfigDict, Field

from aftercommit.core.features import Feature
from aftercommit.core.queues import Priority
from aftercommit.core.schedules import RunKind
from aftercommit.core.states import Status
from aftercommit.core.uniqueness import Scope
from aftercommit.server.api.schemas import Output
from aftercommit.server.api.waiting_reasons import WaitingForOut


class ErrorOut(Output):
    type: str = Field(examples=["Retry"])
    message: str = Field(examples=["POST https://example.com answered 503"])
    traceback: str | None = None


def _is_cancelling(features: int) -> bool:
    return bool(features & Feature.CANCELLING)


class ProgressOut(Output):
    fraction: float | None = Field(description="From 0 to 1; null: unknown", examples=[0.4])
    message: str | None = Field(examples=["page 3 of 8"])
    attempt: int = Field(description="The attempt that told it", examples=[1])
    reported_at: datetime


class UniqueOut(Output):
    """A task's unique key, as it was submitted."""

    model_config = ConfigDict(serialize_by_alias=True)

    key: str | None = Field(examples=["order-17"])
    fields: list[str] | None = Field(description="The fields of its first payload that make up the key")
    scope: Scope
    held_while: str | None = Field(alias="while", description="waiting or unfinished; null: for_seconds")
    for_seconds: float | None


class ScheduleTickOut(Output):
    """What made a task: a tick of a schedule."""

    name: str = Field(examples=["daily-report"])
    tick: datetime
    folded: int = Field(description="How many earlier ticks the task stands for")
    kind: RunKind


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


class ListedTaskOut(Output):
    """A task as it stands now. What was not asked for, or has no room in the answer, is left out."""

    id: UUID = Field(examples=["0199a3c5-7e4b-7c11-9a55-0d9f4c5be7aa"])
    type: str = Field(examples=["http.request"])
    queue: str = Field(examples=["tasks"])
    priority: Priority
    status: Status
    payload: dict[str, Any] | None = None
    tags: list[str]
    max_retries: int | None
    timeout_seconds: float | None
    retry: dict[str, Any] | None = Field(description="Its own delays", examples=[{"delays_seconds": [5, 30, 120]}])
    result_ttl_seconds: float | None
    dispatch: int = Field(description="How often it was sent out")
    attempt: int = Field(description="How often it was started")
    worker: str | None = Field(description="The worker that runs it or ran it last")
    result: Any = None
    error: ErrorOut | None = None
    created_at: datetime
    queued_at: datetime = Field(description="When it was last sent out")
    due_at: datetime | None = Field(description="When a scheduled task is sent out; a retry's earliest start")
    expires_at: datetime | None = Field(description="Its deadline")
    cancelling: Annotated[bool, BeforeValidator(_is_cancelling)] = Field(
        validation_alias="features", description="It runs, and is cancelled once its code has stopped"
    )
    cancel_reason: str | None = Field(description="Why it is to be cancelled, or was")
    first_started_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    result_expires_at: datetime | None = Field(description="When its result is deleted, or was")
    progress: ProgressOut | None = Field(default=None, description="What its handler told last; not in listings")
    unique: Annotated[UniqueOut | None, BeforeValidator(_parsed)] = Field(validation_alias="uniqueness")
    schedule: Annotated[ScheduleTickOut | None, BeforeValidator(_parsed)] = Field(
        default=None, description="The schedule and the tick that made it"
    )


class TaskOut(ListedTaskOut):
    """A task as it stands now."""

    payload: dict[str, Any]
    result: Any
    error: ErrorOut | None = Field(description="Why it did not succeed, or why it is being retried")


class FoundTaskOut(TaskOut):
    """A task as it stands now, and why it waits, where it does."""

    waiting_for: list[WaitingForOut] | None = Field(
        default=None, description="What stands between it and its start, the first thing first; null: it does not wait"
    )


class TaskPage(Output):
    tasks: list[ListedTaskOut]
    next_cursor: str | None = Field(description="For the next page; null on the last")


class AttemptOut(Output):
    attempt: int = Field(
        description="0: no attempt; the task was never started, and its payload was replaced", examples=[1]
    )
    outcome: str = Field(
        description="one of running, succeeded, retried, failed, released, snoozed, cancelled, expired, completed",
        examples=["retried"],
    )
    worker: str | None = Field(examples=["host-1-4711-0d9f4c5b"])
    started_at: datetime | None
    finished_at: datetime | None
    error: ErrorOut | None
    payload: dict[str, Any] | None = Field(
        default=None,
        exclude_if=lambda payload: payload is None,
        description="What it ran with, where an operator's retry replaced that",
    )


class AttemptsOut(Output):
    attempts: list[AttemptOut]
