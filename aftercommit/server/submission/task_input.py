"""A task as a client describes it, checked strictly: nothing is coerced, unknown fields are refused."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from aftercommit.core.queues import QUEUE_PATTERN, Priority
from aftercommit.handler import LONGEST_TIMEOUT_SECONDS, TYPE_PATTERN

TAG_PATTERN: Final = r"^[A-Za-z0-9_.:/@+=#-]{1,100}$"


def whole(value: Any) -> Any:
    """``value``, as an integer where it is a whole number: JSON knows one kind of number, and 5.0 is as whole as 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Retries = Annotated[int, Field(ge=0, le=1000), BeforeValidator(whole)]
TypeName = Annotated[str, Field(pattern=TYPE_PATTERN, examples=["http.request"])]
QueueName = Annotated[str, Field(pattern=QUEUE_PATTERN, examples=["tasks"])]
PriorityName = Annotated[Priority, Field(strict=False)]
Tag = Annotated[str, Field(pattern=TAG_PATTERN, examples=["order:4711"])]


class Input(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class TaskIn(Input):
    """A task to submit."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "http.request",
                    "payload": {"method": "POST", "url": "https://example.com/hook", "json": {"order": 4711}},
                    "priority": "high",
                    "max_retries": 5,
                    "tags": ["order:4711"],
                }
            ]
        }
    )

    type: TypeName
    payload: dict[str, Any] = Field(
        default={},
        description="Any JSON object up to API_MAX_PAYLOAD_BYTES. No NUL characters, no lone surrogates.",
        examples=[{"order": 4711}],
    )
    queue: QueueName | None = Field(default=None, description="One of QUEUES; null: the first of them")
    priority: PriorityName = Priority.MEDIUM
    max_retries: Retries | None = Field(
        default=None, description="Attempts after the first; null: the handler's own, or MAX_RETRIES"
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT_SECONDS)] | None = Field(
        default=None, description="Bound of one attempt; null: the handler's own, or TASK_TIMEOUT_SECONDS"
    )
    tags: list[Tag] = Field(default=[], max_length=20)
