"""What workers say of their handlers, whatever those are made of."""

import json
import math
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from aftercommit import Backoff, Handler, task
from aftercommit.worker.declared_types import declared


class NotANumber(BaseModel):
    value: float = math.nan


def schema_of(handler: Handler) -> Any:
    schema = declared(handler).schema
    return None if schema is None else json.loads(schema)


def test_description_is_the_first_paragraph_and_can_be_stored() -> None:
    @task("test.described", retry=Backoff(initial_seconds=5))
    def described(a: int) -> None:
        """First\x00 line,
        and the second.

        More."""

    found = declared(described)
    assert found.description == "First\N{REPLACEMENT CHARACTER} line,\nand the second."
    assert json.loads(found.options)["retry"]["backoff"]["initial_seconds"] == 5
    assert schema_of(described)["required"] == ["a"]


def test_what_a_schema_has_no_words_for_is_left_open() -> None:
    @task("test.callable")
    def take(call: Callable[[], None], name: str) -> None: ...

    properties = schema_of(take)["properties"]
    assert properties == {"call": {"title": "Call"}, "name": {"title": "Name", "type": "string"}}


def test_default_that_is_no_json_costs_the_schema_alone() -> None:
    @task("test.nan")
    def take(number: NotANumber) -> None: ...

    found = declared(take)
    assert (found.type, found.schema) == ("test.nan", None)
