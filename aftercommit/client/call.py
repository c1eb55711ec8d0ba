"""A request as plain data, and what becomes of its answer. Pure: the clients only send."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from aftercommit.client.errors import BY_CODE, ApiError, FieldError, UnexpectedAnswer

T = TypeVar("T")

LONGEST_QUOTE: Final = 200
"""Characters of an answer that is not the API's, in the error that tells of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """``path`` is as in the OpenAPI document, and ``names`` fills its braces. ``parse`` makes the result of the body of
    an answer that succeeded, or has one of the statuses ``accepts``.

    ``repeatable``: sending it twice does the same as once. ``wait_seconds`` is how long the service may hold the answer
    back.
    """

    method: str
    path: str
    parse: Callable[[bytes], T]
    repeatable: bool
    names: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    idempotency_key: str | None = None
    wait_seconds: float = 0.0
    accepts: frozenset[int] = frozenset()

    @property
    def filled_path(self) -> str:
        return self.path.format_map({name: quote(value, safe="") for name, value in self.names.items()})

    @property
    def headers(self) -> dict[str, str]:
        headers = {}
        if self.body is not None:
            headers["Content-Type"] = "application/json"
        if self.idempotency_key is not None:
            headers["Idempotency-Key"] = self.idempotency_key
        return headers

    def result(self, answer: httpx.Response) -> T:
        """Raises ApiError."""
        if not answer.is_success and answer.status_code not in self.accepts:
            raise _problem(answer)
        try:
            return self.parse(answer.content)
        except ValidationError as error:
            raise UnexpectedAnswer(
                f"{self.method} {self.path} was answered with {answer.status_code} and {_quoted(answer)}",
                status=answer.status_code,
            ) from error


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """``following`` asks for the next one; None: this is the last."""

    items: Sequence[T]
    following: "Call[Page[T]] | None"


def paged(call: Call[tuple[Sequence[T], str | None]], *, cursor: str = "cursor") -> Call[Page[T]]:
    """``call``, whose result is items and the value of the parameter ``cursor`` for the next page, as a page."""

    def parse(content: bytes) -> Page[T]:
        items, position = call.parse(content)
        if position is None:
            return Page(items, None)
        return Page(items, paged(replace(call, query={**call.query, cursor: position}), cursor=cursor))

    return Call(
        method=call.method, path=call.path, names=call.names, query=call.query, repeatable=call.repeatable, parse=parse
    )


def encode(value: object) -> bytes:
    """JSON. Raises ValueError or TypeError for what JSON cannot have."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()


class _Problem(BaseModel):
    model_config = ConfigDict(extra="ignore")

    code: str
    detail: str
    errors: tuple[FieldError, ...] = ()


def _problem(answer: httpx.Response) -> ApiError:
    retry_after_seconds = _retry_after_seconds(answer.headers.get("Retry-After"), now=datetime.now(UTC))
    try:
        told = _Problem.model_validate_json(answer.content)
    except ValidationError:
        return ApiError(
            f"the answer was {answer.status_code} and {_quoted(answer)}",
            status=answer.status_code,
            retry_after_seconds=retry_after_seconds,
        )
    return BY_CODE.get(told.code, ApiError)(
        told.detail,
        code=told.code,
        status=answer.status_code,
        errors=told.errors,
        retry_after_seconds=retry_after_seconds,
    )


def _retry_after_seconds(header: str | None, *, now: datetime) -> float | None:
    """Seconds from now that ``Retry-After`` asks for, as a number or a date; None for what is neither."""
    if header is None:
        return None
    if header.isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return max((moment - now).total_seconds(), 0.0)


def _quoted(answer: httpx.Response) -> str:
    return repr(answer.text[:LONGEST_QUOTE])


def query(**parameters: Any) -> dict[str, str]:
    """Those that are given, as text."""
    return {name: str(value) for name, value in parameters.items() if value is not None}
