"""One installation under test: an own database on private servers, a fleet of roles, and a proxy between them."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

import aio_pika
import aiohttp
import asyncpg

from aftercommit.broker import topology
from aftercommit.core.queues import Priority, WorkQueue
from aftercommit.core.settings import Settings
from aftercommit.devstack.ports import free_port
from aftercommit.devstack.servers import Servers
from tests.faults.effects import DSN_NAME, TABLES
from tests.faults.processes import CHECKOUT, Fleet, RoleProcess
from tests.faults.proxy import ProxiedLink, Proxy
from tests.faults.settings import RETRY_DELAYS_SECONDS, ROLE_SETTINGS
from tests.role_settings import others_settings

MODULES: Final = {
    "api": "app.api.run",
    "relay": "app.outbox.run",
    "maintenance": "app.maintenance.run",
    "worker": "app.workers.run",
}
QUEUES: Final = tuple(str(WorkQueue("tasks", priority)) for priority in Priority)
RETRY_QUEUES: Final = tuple(
    topology.retry_queue(priority, delay) for priority in Priority for delay in RETRY_DELAYS_SECONDS
)
SERVE_SECONDS: Final = 60.0
LIVE_WORKERS: Final = "SELECT count(*) FROM aftercommit.workers WHERE lease_until > now()"


@dataclass(frozen=True, slots=True)
class Shape:
    """How many processes of each role."""

    api: int = 1
    relay: int = 2
    maintenance: int = 2
    worker: int = 3


class Installation:
    """As an async context manager: starts with empty servers, and nothing of it runs afterwards. ``settings`` are added
    to those of the roles that read them."""

    def __init__(
        self,
        servers: Servers,
        folder: Path,
        *,
        shape: Shape,
        settings: Mapping[str, str] | None = None,
        prepare: Callable[[Fleet], None] = lambda _: None,
    ) -> None:
        self.servers = servers
        self.proxy = Proxy()
        self._shape = shape
        self._folder = folder
        self._settings = {**ROLE_SETTINGS, **(settings or {})}
        self._prepare = prepare
        self._database = f"fault_{uuid4().hex}"
        self._keeping: asyncio.Task[None] | None = None
        self.fleet = Fleet([])
        self.urls: list[str] = []

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self._empty_broker)
            await self._create_database()
            self.fleet = Fleet([self._role(kind, number) for kind in MODULES for number in range(self._count(kind))])
            self._prepare(self.fleet)
            self.fleet.start()
            self._keeping = asyncio.create_task(self.fleet.keep())
            await self._until_serving()
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        self._end()

    def _end(self) -> None:
        self.fleet.end()
        self.proxy.close()

    def _count(self, kind: str) -> int:
        return int(getattr(self._shape, kind))

    def _role(self, kind: str, number: int) -> RoleProcess:
        name = f"{kind}-{number + 1}"
        postgres = self.proxy.add(role=name, server="postgres", target=lambda: self.servers.postgres.port)
        rabbitmq = self.proxy.add(role=name, server="rabbitmq", target=lambda: self.servers.rabbitmq.amqp_port)
        inherited = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
        environment = inherited | self._settings | self.servers.environment() | others_settings(kind)
        environment |= _through(postgres, rabbitmq) | {"POSTGRES_DB": self._database, DSN_NAME: self.dsn}
        if kind == "api":
            port = free_port()
            environment["API_PORT"] = str(port)
            self.urls.append(f"http://127.0.0.1:{port}")
        return RoleProcess(name, MODULES[kind], environment=environment, log_file=self._folder / f"{name}.log")

    def add(self, kind: str) -> RoleProcess:
        """One more process, started."""
        role = self._role(kind, len(self.fleet.of(kind)))
        self.fleet.roles = (*self.fleet.roles, role)
        role.start()
        return role

    @property
    def dsn(self) -> str:
        """The way to the database that no fault of the network touches."""
        found = self.servers.environment()
        login = f"{found['POSTGRES_USER']}:{found['POSTGRES_PASSWORD']}"
        return f"postgresql://{login}@{found['POSTGRES_HOST']}:{found['POSTGRES_PORT']}/{self._database}"

    async def connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(self.dsn, timeout=10)

    def _empty_broker(self) -> None:
        """A new default vhost: no queue, no message, no policy of an earlier scenario."""
        self.servers.rabbitmq.delete_vhost("/")
        self.servers.rabbitmq.create_vhost("/")

    async def _create_database(self) -> None:
        found = self.servers.environment()
        admin = await asyncpg.connect(self.dsn.rpartition("/")[0] + "/" + found["POSTGRES_DB"])
        try:
            await admin.execute(f"CREATE DATABASE {self._database}")
            # The user has the schema's name, so that "$user" would find tables that a statement does not qualify.
            await admin.execute(f"ALTER DATABASE {self._database} SET search_path = public")
        finally:
            await admin.close()
        await asyncio.to_thread(self._migrate)
        connection = await self.connect()
        try:
            await connection.execute(TABLES)
        finally:
            await connection.close()

    def _migrate(self) -> None:
        environment = {**os.environ, **self.servers.environment(), "POSTGRES_DB": self._database}
        command = [sys.executable, "-m", "alembic", "upgrade", "head"]
        subprocess.run(command, cwd=CHECKOUT, env=environment, check=True, timeout=60, capture_output=True)

    async def _until_serving(self) -> None:
        """Each API answers, each worker has its lease: a fault shall not strike what has not begun."""
        connection = await self.connect()
        try:
            async with asyncio.timeout(SERVE_SECONDS), aiohttp.ClientSession() as session:
                while not (
                    all([await _answers(session, url) for url in self.urls])
                    and await connection.fetchval("SELECT count(*) FROM aftercommit.workers WHERE lease_until > now()")
                    >= self._shape.worker
                ):
                    if self.fleet.flaws:
                        raise RuntimeError(self.fleet.flaws[0])
                    await asyncio.sleep(0.1)  # between two looks: neither HTTP nor Postgres calls us
        finally:
            await connection.close()

    def _work_queues(self) -> list[str]:
        return [f"{queue}.{priority}" for queue in self._settings["QUEUES"].split(",") for priority in Priority]

    async def depths(self) -> dict[str, int]:
        """Messages that are ready, in each queue that holds any; a queue that does not exist holds none."""
        found = {}
        connection = await aio_pika.connect(self.servers.environment()["RABBITMQ_URL"], timeout=10)
        async with connection:
            for name in (*self._work_queues(), *RETRY_QUEUES, topology.DEAD_LETTERS):
                channel = await connection.channel()
                with suppress(aio_pika.exceptions.ChannelNotFoundEntity):
                    queue = await channel.declare_queue(name, passive=True, timeout=10)
                    found[name] = queue.declaration_result.message_count or 0
                    await channel.close()
        return {name: depth for name, depth in found.items() if depth}


def _through(postgres: ProxiedLink, rabbitmq: ProxiedLink) -> dict[str, str]:
    return {
        "POSTGRES_PORT": str(postgres.port),
        "RABBITMQ_URL": f"amqp://guest:guest@127.0.0.1:{rabbitmq.port}/",
    }


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/readyz") as response:
            return response.status == 200
    except (aiohttp.ClientError, OSError):
        return False
