"""What the client returns. Fields that a newer service has besides are ignored."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from aftercommit.context import ScheduleTick


class Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class TaskError(Result):
    """Why an attempt did not succeed: the exception's type, its text, and where it was raised."""

    type: str
    message: str
    traceback: str | None = None


class Progress(Result):
    """What a handler told last: ``fraction`` from 0 to 1, or None where it does not know."""

    fraction: float | None
    message: str | None
    attempt: int
    reported_at: datetime


class UniqueKey(Result):
    """A task's unique key, as it was submitted. ``held_while`` is None where ``for_seconds`` is given."""

    key: str | None
    fields: tuple[str, ...] | None
    scope: str
    held_while: str | None = Field(alias="while")
    for_seconds: float | None


class WaitingFor(Result):
    """What stands between a task and its start: ``reason`` to branch on, ``detail`` to show."""

    reason: str
    detail: str
    since: datetime | None
    until: datetime | None


class Task(Result):
    """A task as it was when the service answered. Times are in UTC.

    ``payload``, ``result``, ``error`` and ``progress`` are None, too, where an answer leaves them out: in listings, and
    in the answer to a batch that was repeated, where it would be too large. ``waiting_for`` is what ``get_task`` tells
    of one that waits.
    """

    id: UUID
    type: str
    queue: str
    priority: str
    status: str
    payload: dict[str, Any] | None = None
    tags: tuple[str, ...]
    max_retries: int | None
    timeout_seconds: float | None
    retry: dict[str, Any] | None
    result_ttl_seconds: float | None
    dispatch: int
    attempt: int
    worker: str | None
    result: Any = None
    error: TaskError | None = None
    created_at: datetime
    queued_at: datetime
    due_at: datetime | None
    expires_at: datetime | None
    cancelling: bool
    cancel_reason: str | None
    first_started_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    result_expires_at: datetime | None
    progress: Progress | None = None
    unique: UniqueKey | None = None
    schedule: ScheduleTick | None = None
    waiting_for: tuple[WaitingFor, ...] | None = None

    @property
    def is_final(self) -> bool:
        """Whether it has ended: succeeded, failed, cancelled or expired."""
        return self.finished_at is not None

    @property
    def succeeded(self) -> bool:
        return self.status == "succeeded"


class SubmittedTask(Task):
    """``submission`` says what the submit did: it ``created`` the task, found the ``existing`` one that holds the
    unique key, ``replaced`` that one, or was ``replayed``, since the same request had come before."""

    submission: str


class Attempt(Result):
    """``outcome`` is ``running`` or how it ended; ``payload`` is set where an operator's retry replaced the one that it
    ran with."""

    attempt: int
    outcome: str
    worker: str | None
    started_at: datetime | None
    finished_at: datetime | None
    error: TaskError | None
    payload: dict[str, Any] | None = None


class WorkQueue(Result):
    """A work queue. What RabbitMQ tells is None while it is away."""

    name: str
    waiting: int
    running: int
    scheduled: int
    failed: int
    oldest_waiting_seconds: float | None
    ready: int | None
    unacknowledged: int | None
    consumers: int | None
    problem: str | None
    tuning: str | None


class Queues(Result):
    """``broker`` is ``up`` or what is wrong; ``problems`` has every queue and exchange that cannot be used."""

    queues: tuple[WorkQueue, ...]
    dead_letters: int | None
    broker: str
    problems: dict[str, str]
    counted_at: datetime


class OutboxRow(Result):
    """Tasks that were parked, since no queue takes their message."""

    id: int
    destination: str
    work_queue: str
    task_ids: tuple[UUID, ...]
    attempts: int
    last_error: str | None
    created_at: datetime
    failed_at: datetime


class Outbox(Result):
    """Numbers of tasks that are not in RabbitMQ yet; ``failed_rows`` are the first of those that were parked."""

    unpublished: int
    oldest_age_seconds: float | None
    failed: int
    failed_rows: tuple[OutboxRow, ...]


class Queue(Result):
    """A queue, as it was set. ``paused`` and ``deleting`` tell since when, or are None; ``work_queues`` is None where
    they were not asked for."""

    name: str
    is_default: bool
    description: str | None
    priorities: tuple[str, ...] | None
    types: tuple[str, ...] | None
    max_waiting: int | None
    max_payload_bytes: int | None
    max_retries: int | None
    retry: dict[str, Any] | None
    timeout_seconds: float | None
    ordering: str
    weights: dict[str, int] | None
    max_running: int | None
    rate_per_second: float | None
    burst: int | None
    paused: dict[str, Any] | None
    deleting: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime
    work_queues: tuple[WorkQueue, ...] | None = None


class Purge(Result):
    """``matching`` is counted up to 10,000 when the purge is asked for; of a dry run the others are None."""

    id: UUID | None
    queue: str
    matching: int | None
    cancelled: int
    asked_at: datetime | None
    ended_at: datetime | None


class WorkerTask(Result):
    id: UUID
    type: str
    queue: str
    priority: str
    attempt: int
    started_at: datetime | None


class Worker(Result):
    """A worker's process, as it told with its last heartbeat. ``state`` is ``running``, ``draining`` or ``lost``;
    ``tasks`` is None in a list."""

    name: str
    host: str | None
    pid: int | None
    version: str | None
    state: str
    work_queues: tuple[str, ...] | None
    slots: int | None
    slots_taken: int | None
    prefetch: int | None
    handlers: dict[str, dict[str, Any]]
    grants: dict[str, int] | None
    started_at: datetime
    renewed_at: datetime | None
    lease_until: datetime
    drain_requested_at: datetime | None
    tasks: tuple[WorkerTask, ...] | None = None


class TypeOptions(Result):
    """What the handler's decorator says; None where the worker's settings decide."""

    isolated: bool
    queue: str | None
    priority: str | None
    max_retries: int | None
    timeout_seconds: float | None
    retry: dict[str, Any] | None
    schedule: str | None


class TaskType(Result):
    """A task type as the worker that started last declared it. ``workers`` serve it now; ``payload_schema`` is JSON
    schema, None where any object may fit."""

    type: str
    description: str | None
    payload_schema: dict[str, Any] | None
    options: TypeOptions
    workers: tuple[str, ...]
    declared_by: str
    declared_at: datetime


class Schedule(Result):
    """``task`` is as it was given."""

    name: str
    cron: str | None
    zone: str | None
    interval_seconds: float | None
    jitter_seconds: float
    task: dict[str, Any]
    catch_up: str
    catch_up_max: int
    catch_up_seconds: float
    overlap: str
    paused: bool
    declared_in: str | None
    declared_by: str | None
    next_tick: datetime | None
    next_due_at: datetime | None
    buffered_tick: datetime | None
    latest_task_id: UUID | None
    created_at: datetime
    updated_at: datetime


class ScheduleRun(Result):
    """What became of a tick."""

    tick: datetime
    first_tick: datetime
    folded: int
    kind: str
    outcome: str
    reason: str | None
    task_id: UUID | None
    due_at: datetime
    decided_at: datetime
    late_seconds: float


class Backfilled(Result):
    """``next_from`` is where to go on; None: the range is done."""

    created: int
    task_ids: tuple[UUID, ...]
    next_from: datetime | None


class Readiness(Result):
    """``status`` is ``ready``, ``degraded`` (tasks are taken, RabbitMQ is down) or ``not ready``; the others are ``up``
    or say what is wrong."""

    status: str
    postgres: str
    migrations: str
    broker: str
