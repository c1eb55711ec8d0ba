"""One Aftercommit to be measured: a database and a vhost of its own, and its roles as processes."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import asyncpg

from aftercommit.core.settings import Settings
from aftercommit.devstack.ports import HOST, free_port
from aftercommit.devstack.servers import Servers
from aftercommit.devstack.stack import fetch_status
from bench.child_process import CHECKOUT, ChildProcess, Died
from bench.load import STAMP, Order, Receipt
from bench.progress import Progress

API: Final = "api"
UNGROUPED_API: Final = "api-ungrouped"
RELAY: Final = "relay"
MAINTENANCE: Final = "maintenance"
WORKER: Final = "worker"
FORWARDER: Final = "forwarder"
ROLES: Final = (MAINTENANCE, API, RELAY, WORKER)

_MODULES: Final = {
    API: "app.api.run",
    UNGROUPED_API: "bench.ungrouped_api",
    RELAY: "app.outbox.run",
    MAINTENANCE: "app.maintenance.run",
    WORKER: "app.workers.run",
    FORWARDER: "app.forward.run",
}
_SERVE_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.02
DEPLOYED: Final = CHECKOUT / "bench" / "deployed"
"""Makes our environment what the roles are deployed with."""

Bodies = Mapping[str, Any] | Sequence[Mapping[str, Any]]

FINISH_SECONDS: Final = 600.0
LEARN_SECONDS: Final = 7.0
"""Workers tell with their leases, every 3 s by default, and relays look as often."""


class Installation:
    """As an async context manager: begins empty, and nothing of it stays. ``settings`` are those of every role;
    ``checkout`` has their code."""

    def __init__(
        self,
        servers: Servers,
        folder: Path,
        *,
        template: str,
        settings: Mapping[str, str],
        checkout: Path = CHECKOUT,
    ) -> None:
        self.servers = servers
        self._folder = folder
        self._template = template
        self._settings = settings
        self._checkout = checkout
        self._name = f"bench_{uuid4().hex}"
        self._port = free_port()
        self.roles: dict[str, ChildProcess] = {}

    async def __aenter__(self) -> Self:
        admin = await asyncpg.connect(server_dsn(self.servers))
        await admin.execute(f"CREATE DATABASE {self._name} TEMPLATE {self._template}")
        await admin.close()
        await asyncio.to_thread(self.servers.rabbitmq.create_vhost, self._name)
        self.connection: asyncpg.Connection = await asyncpg.connect(self.dsn)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for role in self.roles.values():
            role.kill()
        await self.connection.close()
        admin = await asyncpg.connect(server_dsn(self.servers))
        await admin.execute(f"DROP DATABASE {self._name} WITH (FORCE)")
        await admin.close()
        await asyncio.to_thread(self.servers.rabbitmq.delete_vhost, self._name)

    @property
    def dsn(self) -> str:
        return server_dsn(self.servers, database=self._name)

    @property
    def amqp_url(self) -> str:
        return self.servers.environment()["RABBITMQ_URL"].rstrip("/") + f"/{self._name}"

    @property
    def forwarding(self) -> dict[str, str]:
        """Settings of a forwarder from an outbox in this installation's own database."""
        return {"FORWARD_DSN": self.dsn, "AFTERCOMMIT_URL": f"http://{HOST}:{self._port}"}

    async def start(self, *kinds: str, settings: Mapping[str, str] | None = None) -> None:
        """One more process of each kind, with ``settings`` of its own; returns when they serve."""
        for kind in kinds:
            name = f"{kind}-{sum(each.startswith(kind) for each in self.roles) + 1}"
            environment = {**self._environment(), **self._settings, **(settings or {})}
            self.roles[name] = ChildProcess(
                name,
                [sys.executable, "-m", _MODULES[kind]],
                environment=environment,
                folder=self._folder,
                instead=DEPLOYED,
                checkout=self._checkout,
            )
        async with asyncio.timeout(_SERVE_SECONDS):
            while not await self._serves():
                for role in self.roles.values():
                    role.check()
                await asyncio.sleep(_LOOK_SECONDS)

    async def stop(self, kind: str) -> None:
        """All processes of this kind, in order."""
        for name in [name for name in self.roles if name.startswith(kind)]:
            await asyncio.to_thread(self.roles.pop(name).stop)

    def pids(self, kind: str) -> list[int]:
        return [role.pid for name, role in self.roles.items() if name.startswith(kind)]

    def signal(self, kind: str, number: signal.Signals) -> None:
        """To all processes of this kind."""
        for pid in self.pids(kind):
            os.kill(pid, number)

    async def submit(self, body: Bodies, tasks: int, *, batch: int = 1_000, **order: Any) -> Receipt:
        """Have ``tasks`` tasks like ``body``, or like each of several in turn, which must fit into a batch evenly, be
        submitted in requests of ``batch`` (1: single ones), or one of them all
        when they are fewer; ``order`` adds to the load's order."""
        batch = min(tasks, batch)
        if tasks % batch:
            raise ValueError(f"{tasks} tasks do not come out even in batches of {batch}")
        bodies = [body] if isinstance(body, Mapping) else body
        text = ", ".join(json.dumps(each).replace(json.dumps(STAMP), STAMP) for each in bodies)
        if batch > 1:
            text = '{"tasks": [' + ", ".join([text] * (batch // len(bodies))) + "]}"
        wanted: dict[str, Any] = {
            "port": self._port,
            "path": "/v1/tasks" if batch == 1 else "/v1/tasks/batch",
            "body": text,
            "requests": tasks // batch,
            "connections": 2,
        }
        return await send(Order(**(wanted | order)))

    def progress(self) -> Progress:
        """Of what is submitted from now on."""
        time.sleep(0.002)  # ids tell milliseconds
        return Progress(self.connection, since=time.time())

    async def warm_up(self, body: Bodies, tasks: int) -> None:
        """Let every part have seen tasks like these, and the relay have heard from the workers how long they take."""
        progress = self.progress()
        await self.submit(body, tasks)
        await progress.until_finished(tasks, timeout_seconds=FINISH_SECONDS)
        await asyncio.sleep(LEARN_SECONDS)

    async def until_published(self) -> None:
        """The outbox is empty, so RabbitMQ has confirmed everything."""
        async with asyncio.timeout(FINISH_SECONDS):
            while await self.connection.fetchval("SELECT EXISTS (SELECT FROM aftercommit.outbox_rows)"):
                await asyncio.sleep(_LOOK_SECONDS)

    async def settle(self) -> None:
        """Give every measurement the same start: no checkpoint is due, and statistics are there."""
        await self.connection.execute("ANALYZE")
        await self.checkpoint()

    async def checkpoint(self) -> None:
        await self.connection.execute("CHECKPOINT")

    def _environment(self) -> dict[str, str]:
        """Of a role: only the settings that are ours, none of the shell's."""
        names = {name.upper() for name in Settings.model_fields}
        inherited = {name: value for name, value in os.environ.items() if name not in names}
        return inherited | {
            **self.servers.environment(),
            "POSTGRES_DB": self._name,
            "RABBITMQ_URL": self.amqp_url,
            "API_PORT": str(self._port),
            "WORKER_MODULES": "bench.handlers",
        }

    async def _serves(self) -> bool:
        workers = await self.connection.fetchval("SELECT count(*) FROM aftercommit.workers WHERE lease_until > now()")
        if workers < len(self.pids(WORKER)):
            return False
        return (
            not self.pids(API)
            or await asyncio.to_thread(fetch_status, f"http://{HOST}:{self._port}/readyz") is not None
        )


async def send(order: Order) -> Receipt:
    """Have the load's process send an order. Raises Died with what it printed when it fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.load",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=CHECKOUT,
    )
    try:
        printed, complaints = await process.communicate(json.dumps(asdict(order)).encode())
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise Died(f"the load failed:\n{complaints.decode()[-1_500:]}")
    return Receipt(**json.loads(printed))


def server_dsn(servers: Servers, *, database: str | None = None) -> str:
    """Of a database on these servers; the server's own when none is named."""
    found = servers.environment()
    login = f"{found['POSTGRES_USER']}:{found['POSTGRES_PASSWORD']}"
    return f"postgresql://{login}@{found['POSTGRES_HOST']}:{found['POSTGRES_PORT']}/{database or found['POSTGRES_DB']}"
