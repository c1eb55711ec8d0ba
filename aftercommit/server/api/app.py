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

from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.declaration import Declarer
from aftercommit.broker.inspection import Inspector
from aftercommit.broker.management import Management
from aftercommit.core.settings import Settings
from aftercommit.db import announcements
from aftercommit.db.database import Database, DatabaseConnection
from aftercommit.runtime.announce import announce
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.runtime.notifier import Notifier
from aftercommit.server.api import (
    health_routes,
    outbox_routes,
    problems,
    queue_routes,
    schedule_routes,
    submit_routes,
    task_routes,
    type_routes,
    worker_routes,
)
from aftercommit.server.api.body_limit import BodyLimit
from aftercommit.server.api.completion_waiters import CompletionWaiters
from aftercommit.server.api.dependencies import Dependencies
from aftercommit.server.api.direct_routes import DirectRoutes
from aftercommit.server.api.outage_log import OutageLog
from aftercommit.server.api.problems import Problem
from aftercommit.server.api.queue_overview import QueueOverview
from aftercommit.server.api.queue_schemas import PauseIn, PurgeIn, QueueIn
from aftercommit.server.api.readiness import Readiness
from aftercommit.server.api.schedule_schemas import BackfillIn, ScheduleIn, ScheduleReplaceIn
from aftercommit.server.api.schemas import BatchIn, CancelIn, CompletionIn, RequeueIn, RescheduleIn
from aftercommit.server.api.shared_answer import SharedAnswer
from aftercommit.server.submission.service import submission
from aftercommit.server.submission.task_input import ResubmitIn, TaskIn

DESCRIPTION = """Commit a task; it will run. Errors are RFC 9457 problems: branch on `code`, show `detail`."""

_NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI looks for OpenTelemetry's providers in each request; none ships with us."""

_BODIES: Final = (
    TaskIn,
    BatchIn,
    CancelIn,
    CompletionIn,
    RescheduleIn,
    ResubmitIn,
    ScheduleIn,
    ScheduleReplaceIn,
    BackfillIn,
    RequeueIn,
    QueueIn,
    PauseIn,
    PurgeIn,
    Problem,
)
"""What FastAPI does not see in the routes' signatures."""


def create_app(settings: Settings) -> FastAPI:
    """The application. Its lifespan opens and closes what it needs; it starts while Postgres or RabbitMQ is away."""
    outage_log = OutageLog()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _serving(settings, outage_log) as dependencies:
            app.state.dependencies = dependencies
            yield

    app = FastAPI(title="Aftercommit", version="1", description=DESCRIPTION, lifespan=lifespan, telemetry=_NO_TELEMETRY)
    # The last one added is the outermost.
    app.add_middleware(
        DirectRoutes, posts=submit_routes.DIRECT, on_error=partial(problems.answer, outage_log=outage_log)
    )
    app.add_middleware(
        BodyLimit, max_bytes=settings.api_max_body_bytes, max_bytes_at_a_time=settings.api_max_bodies_bytes
    )
    problems.install(app, outage_log=outage_log)
    for module in (
        submit_routes,
        task_routes,
        schedule_routes,
        type_routes,
        worker_routes,
        queue_routes,
        outbox_routes,
        health_routes,
    ):
        app.include_router(module.router)
    app.openapi = lambda: _openapi(app, settings)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


@asynccontextmanager
async def _serving(settings: Settings, outage_log: OutageLog) -> AsyncIterator[Dependencies]:
    database = Database(settings, application="api")
    connect = partial(DatabaseConnection, settings, application="api")
    notifier = Notifier(connect())
    connection = BrokerConnection(settings.rabbitmq_url, name="aftercommit-api")
    inspector = Inspector(connection)
    known = KnownQueues(settings.queues)
    declarer = Declarer(connection, settings, lambda: known.work_queues)
    readiness = Readiness(connection=connect(), inspector=inspector)
    overview = QueueOverview(
        queues=known,
        database=database,
        inspector=inspector,
        declarer=declarer,
        management=_management(settings),
        readiness=readiness,
    )
    waiters, queues = CompletionWaiters(database), SharedAnswer(overview.read)
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for service in (notifier, waiters, readiness, outage_log):
            group.create_task(service.run(stopping))
        group.create_task(known.run(connect(), stopping))
        group.create_task(announce("announce_settings", partial(_announce, settings, database), stopping=stopping))
        try:
            async with submission(
                settings, database=database, connect=connect, notifier=notifier, queues=known
            ) as submitter:
                yield Dependencies(
                    settings=settings,
                    database=database,
                    notifier=notifier,
                    submitter=submitter,
                    waiters=waiters,
                    readiness=readiness,
                    known_queues=known,
                    declarer=declarer,
                    queues=queues,
                )
        finally:
            await queues.close()
            await overview.close()
            stopping.set()
    await connection.close()
    await database.close()


async def _announce(settings: Settings, database: Database) -> None:
    """For callers in SQL, whose submits have the same limits."""
    await announcements.queues(database.fetch, settings.queues)
    await announcements.limits(
        database.fetch, max_payload_bytes=settings.api_max_payload_bytes, schema_check=settings.schema_check
    )


def _management(settings: Settings) -> Management | None:
    url = settings.rabbitmq_management_url
    return Management(url, broker_url=settings.rabbitmq_url) if url is not None else None


def _openapi(app: FastAPI, settings: Settings) -> dict[str, Any]:
    """FastAPI's document, with the bodies that we parse ourselves, the queues there are at the moment, and the problem
    that every error is."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
        _, own = models_json_schema(
            [(model, "validation") for model in _BODIES],
            ref_template="#/components/schemas/{model}",
        )
        schemas = document["components"]["schemas"]
        schemas |= own["$defs"]
        # FastAPI documents its own shape for 422; ours is in each route's responses.
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = document
    dependencies: Dependencies | None = getattr(app.state, "dependencies", None)
    names = list(settings.queues) if dependencies is None else dependencies.known_queues.open_names
    for task in ("TaskIn", "TaskTemplate"):
        app.openapi_schema["components"]["schemas"][task]["properties"]["queue"]["anyOf"][0]["enum"] = names
    return app.openapi_schema
