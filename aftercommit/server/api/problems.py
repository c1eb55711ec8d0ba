"""Every error leaves as RFC 9457 ``application/problem+json``, with a pointer to what is wrong."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from aftercommit.core import json_text
from aftercommit.core.errors import (
    AftercommitError,
    BodyTimeout,
    BodyTooLarge,
    DatabaseTimeout,
    DatabaseUnavailable,
    FieldError,
    IdempotencyKeyReused,
    InvalidRequest,
    MalformedRequest,
    Overloaded,
    QueueFull,
    TaskNotFound,
    TasksDeleted,
    UniqueConflict,
    UnsupportedMediaType,
    WrongState,
)
from aftercommit.server.api.outage_log import OutageLog

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
MOST_ERRORS: Final = 50


class ProblemField(BaseModel):
    pointer: str = Field(description="JSON pointer into the body, or the name of a parameter", examples=["#/type"])
    detail: str = Field(examples=["Field required"])


class Problem(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(examples=["urn:aftercommit:invalid-request"])
    title: str = Field(examples=["The request does not fit"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["#/type: Field required"])
    code: str = Field(description="Stable: safe to branch on", examples=["invalid-request"])
    errors: list[ProblemField] = Field(default=[], description="One entry per field, where fields are to blame")


def responses(*kinds: type[AftercommitError]) -> dict[int | str, dict[str, Any]]:
    """The error half of a route's OpenAPI ``responses``; what every route may answer is added."""
    grouped: dict[int, list[str]] = {}
    every: tuple[type[AftercommitError], ...] = (*kinds, InvalidRequest, DatabaseUnavailable, DatabaseTimeout)
    for kind in every:
        grouped.setdefault(kind.status, []).append(kind.title)
    documented: dict[int | str, dict[str, Any]] = {}
    for status, titles in grouped.items():
        documented[status] = {
            "description": "; ".join(titles),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    if DatabaseUnavailable.status in documented:
        documented[DatabaseUnavailable.status]["headers"] = {
            "Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer"}}
        }
    return documented


BODY_ERRORS: Final = (MalformedRequest, BodyTimeout, BodyTooLarge, UnsupportedMediaType, Overloaded)
TASK_ERRORS: Final = (TaskNotFound, WrongState)
SUBMIT_ERRORS: Final = (*BODY_ERRORS, IdempotencyKeyReused, TasksDeleted, UniqueConflict, QueueFull)


def render(error: AftercommitError) -> JSONResponse:
    body = Problem(
        type=f"urn:aftercommit:{error.code}",
        title=error.title,
        status=error.status,
        detail=json_text.storable(error.detail),
        code=error.code,
        errors=[
            ProblemField(pointer=json_text.storable(flaw.pointer), detail=json_text.storable(flaw.detail))
            for flaw in error.errors
        ],
    )
    headers = {"Retry-After": str(error.retry_after_seconds)} if error.retry_after_seconds else None
    return JSONResponse(body.model_dump(), error.status, headers, MEDIA_TYPE)


def answer(request: Request, error: AftercommitError, *, outage_log: OutageLog) -> JSONResponse:
    """The problem, logged where it is ours."""
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        outage_log.note(error, path=request.url.path)
    return render(error)


def invalid(*flaws: FieldError) -> InvalidRequest:
    """The error for these flaws; its detail tells the first."""
    first = flaws[0]
    more = f" (and {len(flaws) - 1} more)" if len(flaws) > 1 else ""
    return InvalidRequest(f"{first.pointer}: {first.detail}{more}", errors=flaws[:MOST_ERRORS])


def field_error(flaw: Mapping[str, Any]) -> FieldError:
    """One of pydantic's errors; ``loc`` starts with where the value stood in the request."""
    where, *path = flaw["loc"] or ("body",)
    message = str(flaw["msg"]).removeprefix("Value error, ")
    if where == "body":
        return FieldError("#" + "".join(f"/{json_text.escape_pointer(str(part))}" for part in path), message)
    return FieldError(str(path[0]) if path else str(where), message)


def install(app: FastAPI, *, outage_log: OutageLog) -> None:
    """Render every error that leaves ``app``, foreseen or not, as a problem; log those that are ours."""

    @app.exception_handler(AftercommitError)
    async def on_known(request: Request, error: AftercommitError) -> JSONResponse:
        return answer(request, error, outage_log=outage_log)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return render(invalid(*(field_error(flaw) for flaw in error.errors())))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            # The router names the methods of the first route of a path only.
            path = getattr(request.scope.get("route"), "path_format", None)
            methods = request.app.openapi()["paths"].get(path, {})
            headers |= {"Allow": ", ".join(map(str.upper, methods))} if methods else {}
        code = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "http-error")
        body = Problem(
            type=f"urn:aftercommit:{code}",
            title=str(error.detail),
            status=error.status_code,
            detail=f"{error.detail}: see /docs for the paths and methods there are.",
            code=code,
        )
        return JSONResponse(body.model_dump(), error.status_code, headers, MEDIA_TYPE)

    @app.exception_handler(Exception)
    async def on_unknown(request: Request, error: Exception) -> JSONResponse:
        log.error("request_failed", method=request.method, path=request.url.path, exc_info=error)
        return render(AftercommitError("This is our mistake; the log of the API has the details."))
