"""A unique key as a client describes it, checked as strictly as the task that has it."""

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic.config import JsonDict

from aftercommit.core.uniqueness import OnConflict, Scope

LONGEST_KEY: Final = 500
MOST_FIELDS: Final = 20
LONGEST_SECONDS: Final = 100 * 366 * 86_400


def _given(name: str, kind: str) -> JsonDict:
    return {"required": [name], "properties": {name: {"type": kind}}}


_REPLACES: Final[JsonDict] = {
    "required": ["on_conflict"],
    "properties": {"on_conflict": {"const": OnConflict.REPLACE.value}},
}

Seconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS)]
FieldName = Annotated[str, Field(min_length=1, max_length=LONGEST_KEY, examples=["order.id"])]


class UniqueIn(BaseModel):
    """What must not exist twice at the same time: tasks of the same scope with the same key."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "oneOf": [_given("key", "string"), _given("fields", "array")],
            "not": {"allOf": [_given("while", "string"), _given("for_seconds", "number")]},
            "anyOf": [{"not": _given("at_most_seconds", "number")}, _REPLACES],
            "examples": [{"key": "order-17"}, {"fields": ["order.id"], "on_conflict": "replace"}],
        },
    )

    key: Annotated[str, Field(min_length=1, max_length=LONGEST_KEY, examples=["order-17"])] | None = None
    fields: Annotated[list[FieldName], Field(min_length=1, max_length=MOST_FIELDS)] | None = Field(
        default=None,
        description="Fields of the payload that make up the key; a.b is the field b of the object a. Each must be "
        f"there, as null, a boolean, a number or a string of up to {LONGEST_KEY} characters",
    )
    scope: Annotated[Scope, Field(strict=False)] = Field(
        default=Scope.TYPE, description="Among which tasks: those of this type, of this queue, or all"
    )
    held_while: Literal["waiting", "unfinished"] | None = Field(
        default=None,
        alias="while",
        description="How long a task holds its key: until it is started, or until it is final (the default)",
    )
    for_seconds: Seconds | None = Field(
        default=None, description="Instead of while: so long after its submit, whatever becomes of the task"
    )
    on_conflict: Annotated[OnConflict, Field(strict=False)] = Field(
        default=OnConflict.RETURN_EXISTING, description="What a submit does whose key another task holds"
    )
    at_most_seconds: Seconds | None = Field(
        default=None, description="With replace: the task is due at the latest so long after it took the key"
    )

    @field_validator("fields")
    @classmethod
    def _one_key(cls, value: list[str] | None, info: ValidationInfo) -> list[str] | None:
        if value is not None and info.data.get("key") is not None:
            raise ValueError("stands beside key: give one of them")
        return value

    @field_validator("for_seconds")
    @classmethod
    def _one_time(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("held_while") is not None:
            raise ValueError("stands beside while: give one of them")
        return value

    @field_validator("at_most_seconds")
    @classmethod
    def _replaces(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("on_conflict") is not OnConflict.REPLACE:
            raise ValueError("goes with on_conflict replace only")
        return value

    @model_validator(mode="after")
    def _some_key(self) -> Self:
        if self.key is None and self.fields is None:
            raise ValueError("give key or fields")
        return self
