"""The FastAPI application, put together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig
from pydantic.json_schema import models_json_schema

from app.api import health, outbox, problems, queues, submit, tasks
from app.api.body_limit import BodyLimit
from app.api.problems import Problem
from app.api.schemas import BatchIn, CompletionIn, RequeueIn, TaskIn
from app.api.services import Services
from app.api.submissions import Submissions
from app.api.watch import CompletionWatch
from app.broker.connection import BrokerConnection
from app.broker.inspection import Inspector
from app.broker.management import Management
from app.config import Settings
from app.db.engine import create_engine
from app.db.link import Link
from app.db.signals import OutboxSignal

DESCRIPTION = """Commit a task; it will run. Errors are RFC 9457 problems: branch on `code`, show `detail`."""

_NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI looks for OpenTelemetry's providers in each request; none ships with us."""


def create_app(settings: Settings) -> FastAPI:
    """The application. Its lifespan opens and closes what it needs; it starts while Postgres or RabbitMQ is away."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _serving(settings) as services:
            app.state.services = services
            yield

    app = FastAPI(title="Aftercommit", version="1", description=DESCRIPTION, lifespan=lifespan, telemetry=_NO_TELEMETRY)
    app.add_middleware(BodyLimit, max_bytes=settings.api_max_body_bytes)
    problems.install(app)
    for module in (submit, tasks, queues, outbox, health):
        app.include_router(module.router)
    app.openapi = lambda: _openapi(app, settings)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


@asynccontextmanager
async def _serving(settings: Settings) -> AsyncIterator[Services]:
    engine = create_engine(settings, application="api")
    connect = partial(Link, settings, application="api")
    signal = OutboxSignal(connect())
    connection = BrokerConnection(settings.rabbitmq_url, name="aftercommit-api")
    services = Services(
        settings=settings,
        engine=engine,
        outbox_signal=signal,
        submissions=Submissions(connect, signal),
        watch=CompletionWatch(engine),
        inspector=Inspector(connection),
        management=_management(settings),
    )
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(services.outbox_signal.run(stopping))
        group.create_task(services.watch.run(stopping))
        try:
            yield services
        finally:
            await services.submissions.close()
            stopping.set()
    await connection.close()
    await engine.dispose()


def _management(settings: Settings) -> Management | None:
    url = settings.rabbitmq_management_url
    return Management(url, broker_url=settings.rabbitmq_url) if url is not None else None


def _openapi(app: FastAPI, settings: Settings) -> dict[str, Any]:
    """FastAPI's document, with the bodies that we parse ourselves, the queues there are, and the problem that every
    error is."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
        _, own = models_json_schema(
            [(model, "validation") for model in (TaskIn, BatchIn, CompletionIn, RequeueIn, Problem)],
            ref_template="#/components/schemas/{model}",
        )
        schemas = document["components"]["schemas"]
        schemas |= own["$defs"]
        schemas["TaskIn"]["properties"]["queue"]["anyOf"][0]["enum"] = list(settings.queues)
        # FastAPI documents its own shape for 422; ours is in each route's responses.
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = document
    return app.openapi_schema
