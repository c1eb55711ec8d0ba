"""What ``/v1/workers`` answers."""

import json
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from aftercommit.server.api.schemas import Output


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


class WorkerTaskOut(Output):
    id: UUID
    type: str
    queue: str
    priority: str
    attempt: int
    started_at: datetime | None


class WorkerOut(Output):
    """A worker's process, as it told with its last heartbeat. What a worker of an older release does not tell is
    null."""

    name: str = Field(examples=["host-1-4711-0d9f4c5b"])
    host: str | None
    pid: int | None
    version: str | None = Field(description="Of the package")
    state: Literal["running", "draining", "lost"] = Field(
        description="lost: its lease has lapsed, and it was not seen to stop; what it ran is run by others"
    )
    work_queues: list[str] | None = Field(
        description="Its WORKER_QUEUES, without weights", examples=[["emails", "*.low"]]
    )
    slots: int | None = Field(description="How many tasks it runs at a time")
    slots_taken: int | None
    prefetch: int | None
    handlers: Annotated[dict[str, dict[str, Any]], BeforeValidator(_parsed)] = Field(
        description="Type to its max_retries and timeout_seconds, as resolved"
    )
    grants: Annotated[dict[str, int] | None, BeforeValidator(_parsed)] = Field(
        description="How many tasks it may run of queues with max_running; null: it serves none"
    )
    started_at: datetime
    renewed_at: datetime | None = Field(description="Its last heartbeat")
    lease_until: datetime
    drain_requested_at: datetime | None


class WorkerDetailOut(WorkerOut):
    tasks: list[WorkerTaskOut] = Field(description="What it runs, up to 100 tasks")


class WorkersOut(Output):
    workers: list[WorkerOut]
    next_cursor: str | None


class WorkersQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cursor: Annotated[str, Field(pattern=r"^[!-~]{1,300}$")] | None = Field(
        default=None, description="next_cursor of the page before"
    )
    limit: Annotated[int, Field(ge=1, le=1000)] = 50
