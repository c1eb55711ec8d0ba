"""Real servers for the whole run; for each test a database copied from a migrated template and a vhost of its own."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import structlog

from aftercommit.core.settings import Settings
from aftercommit.db.database import DatabaseConnection
from aftercommit.devstack.servers import Servers
from aftercommit.server.api.completion_waiters import CompletionWaiters
from tests.integration.containers import ContainerServers, choose
from tests.integration.service import Service
from tests.private_servers import container_servers, private_servers

ROOT = Path(__file__).parents[2]
TEMPLATE = "aftercommit_template"

# structlog's own default takes seconds for a traceback, during which the event loop stands still.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Iterator[Servers | ContainerServers]:
    """PostgreSQL and RabbitMQ on free ports, gone after the run. ``--servers`` says what they run as.

    Tests run side by side in several processes; each has servers of its own, so one may stop or fill them."""
    if choose(request.config.getoption("servers")).containers:
        with container_servers() as contained:
            yield contained
    else:
        with private_servers() as (started, _):
            yield started


@pytest.fixture(scope="session")
def template(servers: Servers) -> str:
    """The name of a migrated database that nobody is connected to."""

    async def create() -> None:
        admin = await connect_admin(servers)
        await admin.execute(f"CREATE DATABASE {TEMPLATE}")
        await admin.close()

    asyncio.run(create())
    migrate(servers, TEMPLATE)
    return TEMPLATE


def migrate(servers: Servers, database: str) -> None:
    """Bring ``database`` to the newest migration, as an operator does."""
    environment = {**os.environ, **servers.environment(), "POSTGRES_DB": database}
    subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"], cwd=ROOT, env=environment, check=True, timeout=60
    )


async def connect_admin(servers: Servers, database: str | None = None) -> asyncpg.Connection:
    found = servers.environment()
    return await asyncpg.connect(
        host=found["POSTGRES_HOST"],
        port=int(found["POSTGRES_PORT"]),
        user=found["POSTGRES_USER"],
        password=found["POSTGRES_PASSWORD"],
        database=database or found["POSTGRES_DB"],
    )


@pytest.fixture
async def database(servers: Servers, template: str) -> AsyncIterator[str]:
    """The name of an empty, migrated database."""
    name = f"test_{uuid4().hex}"
    admin = await connect_admin(servers)
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    # The user has the schema's name, so that "$user" would find tables that a statement does not qualify.
    await admin.execute(f"ALTER DATABASE {name} SET search_path = public")
    yield name
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
def vhost(servers: Servers) -> Iterator[str]:
    """The name of an empty vhost."""
    name = f"test-{uuid4().hex}"
    servers.rabbitmq.create_vhost(name)
    yield name
    servers.rabbitmq.delete_vhost(name)


@pytest.fixture
def settings(servers: Servers, database: str, vhost: str) -> Settings:
    """Settings of a fresh installation, with short intervals; ``model_copy(update=...)`` makes variants. ``Service``
    gives each role its own of them."""
    found = servers.environment()
    return Settings(
        _env_file=None,
        postgres_host=found["POSTGRES_HOST"],
        postgres_port=int(found["POSTGRES_PORT"]),
        postgres_user=found["POSTGRES_USER"],
        postgres_password=found["POSTGRES_PASSWORD"],
        postgres_db=database,
        postgres_pool_size=5,
        rabbitmq_url=f"{found['RABBITMQ_URL'].rstrip('/')}/{vhost}",
        rabbitmq_management_url=found["RABBITMQ_MANAGEMENT_URL"],
        retry_delays_seconds=(1, 2),
        max_retries=2,
        outbox_poll_interval=0.2,
        # What is in the outbox stays there until a test starts a relay.
        outbox_eager=False,
        scheduler_interval_seconds=0.2,
        worker_shutdown_seconds=5.0,
        api_port=0,
        http_allow_private_addresses=True,
        log_level="warning",
        worker_modules=("tests.integration.handlers",),
    )


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Service]:
    """An installation to start roles of; whatever a test started is stopped in order after it."""
    async with AsyncExitStack() as stack:
        yield Service(settings, stack)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when somebody waits for a task."""
    event = asyncio.Event()
    wait = CompletionWaiters.wait

    async def tell(watch: CompletionWaiters, task_id: UUID, seconds: float) -> None:
        event.set()
        await wait(watch, task_id, seconds)

    monkeypatch.setattr(CompletionWaiters, "wait", tell)
    return event


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that go through links from now on."""
    statements: list[str] = []
    fetch = DatabaseConnection.fetch

    async def note(link: DatabaseConnection, statement: str, /, *arguments: Any) -> Sequence[Any]:
        statements.append(statement)
        return await fetch(link, statement, *arguments)

    monkeypatch.setattr(DatabaseConnection, "fetch", note)
    return statements
