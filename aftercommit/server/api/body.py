"""Reads and checks JSON bodies. Our own instead of FastAPI's, since strings that Postgres cannot store parse fine
with the standard library and can then be pointed at, and since JSON must be checked strictly."""

import json
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from aftercommit.core import json_text
from aftercommit.core.errors import FieldError, MalformedRequest, UnsupportedMediaType
from aftercommit.server.api.problems import MOST_ERRORS, field_error, invalid
from aftercommit.server.submission.task_input import MOST_FIELDS

M = TypeVar("M", bound=BaseModel)

MOST_FLAWS: Final = 20_000
"""Each takes a kilobyte to name, before it is known which ones the answer has room for."""

_HOLDS_OBJECTS: Final = ("tasks", "task", "error")
"""The fields of requests that hold objects with known fields."""


def json_body(model: type[M], *, required: bool = True) -> Callable[[Request], Awaitable[M]]:
    """A dependency that gives the request's body as ``model``. Unless it is ``required`` an empty body stands for an
    empty object. Raises like ``read_json`` and ``validated``."""

    async def read(request: Request) -> M:
        empty = not required and not await _receive(request)
        return validated(model, {} if empty else await read_json(request))

    return read


async def read_json(request: Request) -> Any:
    """The request's body as a JSON value that can be stored.

    Raises UnsupportedMediaType or MalformedRequest for what is not JSON, InvalidRequest for what cannot be stored.
    """
    value = parse(await _receive(request), request.headers.get("content-type", ""))
    if not json_text.is_plain(value) and (
        flaws := [FieldError(*flaw) for flaw in islice(json_text.find_flaws(value), MOST_ERRORS)]
    ):
        raise invalid(*flaws)
    return value


def validated(model: type[M], value: Any) -> M:
    """``value`` as ``model``. Raises InvalidRequest, with a pointer for each field that does not fit."""
    if crowd := next(_crowds(value), None):
        raise invalid(crowd)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        if (count := error.error_count()) > MOST_FLAWS:
            raise invalid(FieldError("#", f"has {count} flaws, too many to name")) from None
        raise invalid(
            *(
                field_error({**flaw, "loc": ("body", *flaw["loc"])})
                for flaw in error.errors(include_url=False, include_input=False, include_context=False)
            )
        ) from None


def _crowds(value: Any, pointer: str = "#") -> Iterator[FieldError]:
    """The objects in ``value`` that have far more fields than there are."""
    if not isinstance(value, dict):
        return
    if len(value) > MOST_FIELDS:
        yield FieldError(pointer, f"has {len(value)} fields, far more than there are")
        return
    for name in _HOLDS_OBJECTS:
        match value.get(name):
            case dict() as inner if len(inner) > MOST_FIELDS:
                yield from _crowds(inner, f"{pointer}/{name}")
            case list() as items:
                for index, item in enumerate(items):
                    if isinstance(item, dict) and len(item) > MOST_FIELDS:
                        yield from _crowds(item, f"{pointer}/{name}/{index}")


async def _receive(request: Request) -> bytes:
    try:
        return await request.body()
    except ClientDisconnect:  # nobody is left to answer, and nothing is wrong on our side
        raise MalformedRequest("The connection ended before the body did.") from None


def parse(body: bytes, content_type: str) -> Any:
    """The body as a JSON value. Raises MalformedRequest or UnsupportedMediaType."""
    essence = content_type.partition(";")[0].strip().lower()
    if essence != "application/json" and not essence.endswith("+json"):
        raise UnsupportedMediaType(f"Content-Type is {content_type or 'missing'}: send application/json.")
    try:
        return json.loads(body)
    except RecursionError:
        raise MalformedRequest(f"The body is nested deeper than {json_text.MAX_DEPTH} levels.") from None
    except ValueError as error:  # syntax, not UTF-8, or a number of thousands of digits
        raise MalformedRequest(f"The body is not JSON: {error}") from None


def documented(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """The ``openapi_extra`` of a route that takes ``model``; ``aftercommit.server.api.app`` adds the schema itself."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}
