"""What ``/v1/types`` takes and answers."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from aftercommit.handler import TYPE_PATTERN
from aftercommit.server.api.schemas import Output

TypeName = Annotated[str, Field(pattern=TYPE_PATTERN, examples=["email.send"])]


class TypeOptionsOut(Output):
    """What the handler's decorator says; null: the worker's settings decide."""

    isolated: bool
    queue: str | None = Field(default=None, description="Where submits go that name none")
    priority: str | None = Field(default=None, description="That of submits that name none")
    max_retries: int | None
    timeout_seconds: float | None
    retry: dict[str, Any] | None = Field(examples=[{"delays_seconds": [5, 30]}])
    schedule: str | None = Field(description="The schedule that it declares")


class TypeOut(Output):
    """A task type as the worker that started last declared it."""

    type: TypeName
    description: str | None = Field(description="How the handler's docstring begins", examples=["Send one mail."])
    payload_schema: dict[str, Any] | None = Field(
        description="The payload's JSON schema; null: any object may fit",
        examples=[{"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]}],
    )
    options: TypeOptionsOut
    workers: list[str] = Field(description="Who serves it now")
    declared_by: str = Field(description="The worker that changed it last")
    declared_at: datetime


class TypesOut(Output):
    types: list[TypeOut]
    next_cursor: str | None


class TypesQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cursor: TypeName | None = Field(default=None, description="next_cursor of the page before")
    limit: Annotated[int, Field(ge=1, le=1000)] = 50
