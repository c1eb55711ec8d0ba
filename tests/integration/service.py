"""An installation under test: its roles run in this process, on real servers, and stop with the test."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from uvicorn import Config
from yarl import URL

from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.declaration import Declarer
from aftercommit.core.settings import Settings
from aftercommit.db.engine import create_engine
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.runtime.role import Role
from aftercommit.server.api.app import create_app
from aftercommit.server.api.run import Server
from aftercommit.server.maintenance.run import maintain
from aftercommit.server.relay.run import relay
from aftercommit.worker.run import work
from tests.role_settings import others_settings

STOP_SECONDS = 40.0

QUICK_RESCUE: Final = {
    "worker_lease_seconds": 3.0,
    "worker_lease_renew_seconds": 0.5,
    "rescue_interval_seconds": 0.2,
    "rescue_overdue_seconds": 0.5,
}
"""Settings with which a task of a dead worker, or one that runs past its timeout, is rescued within seconds."""


@asynccontextmanager
async def single_statement(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection on which each statement is its own transaction."""
    async with engine.connect() as connection:
        yield await connection.execution_options(isolation_level="AUTOCOMMIT")


class RunningRole:
    """A role in a task. ``stop`` is what SIGTERM is to a process."""

    def __init__(self, role: Role, settings: Settings) -> None:
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] = asyncio.create_task(role(settings, self._stopping))  # type: ignore[arg-type]

    async def stop(self) -> None:
        self._stopping.set()
        async with asyncio.timeout(STOP_SECONDS):
            await self._task


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: Any


class Api:
    """A client of a live API. ``call`` returns the status and the parsed body, ``ask`` the headers too."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        if body is not None:
            options["json"] = body
        async with self._session.request(method, URL(self.url + path, encoded=True), **options) as response:
            return Answer(response.status, response.headers, await response.json(content_type=None))

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        answer = await self.ask(method, path, body, **options)
        return answer.status, answer.body

    async def refusal(self, method: str, path: str, body: Any = None, **options: Any) -> dict[str, Any]:
        """The problem that the API answers with; that it is a proper one is checked."""
        answer = await self.ask(method, path, body, **options)
        assert answer.headers["Content-Type"] == "application/problem+json", answer
        assert answer.body["status"] == answer.status
        assert answer.body["type"] == f"urn:aftercommit:{answer.body['code']}"
        assert answer.body["title"]
        assert answer.body["detail"]
        return dict(answer.body)

    async def submit(self, type: str, **fields: Any) -> dict[str, Any]:
        status, task = await self.call("POST", "/v1/tasks", {"type": type, **fields})
        assert status == 201, task
        assert task.pop("submission") == "created"
        return dict(task)

    async def submit_batch(self, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        status, answer = await self.call("POST", "/v1/tasks/batch", {"tasks": tasks})
        assert status == 201, answer
        assert {task.pop("submission") for task in answer["tasks"]} == {"created"}
        return list(answer["tasks"])

    async def get(self, task_id: str, *, wait: float = 0) -> dict[str, Any]:
        status, task = await self.call("GET", f"/v1/tasks/{task_id}?wait={wait}")
        assert status == 200, task
        # Why it waits is told here alone: not by a submit, nor by a list.
        return {name: value for name, value in task.items() if name != "waiting_for"}

    async def attempts(self, task_id: str) -> list[dict[str, Any]]:
        status, answer = await self.call("GET", f"/v1/tasks/{task_id}/attempts")
        assert status == 200, answer
        return list(answer["attempts"])


class Service:
    """Starts roles, each with settings of its own. ``settings`` are the installation's: what each role finds there for
    itself, before the changes that a test makes for one of them."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self.settings = settings
        self._stack = stack
        self.engine: AsyncEngine = create_engine(settings, application="test", size=5)
        stack.push_async_callback(self.engine.dispose)

    async def relay(self, **changes: Any) -> RunningRole:
        return self._start(relay, self.settings_of("relay", **changes))

    async def worker(self, **changes: Any) -> RunningRole:
        """A worker. Give ``worker_queues`` as in the environment's parsed form."""
        return self._start(work, self.settings_of("worker", **changes))

    async def maintenance(self, **changes: Any) -> RunningRole:
        return self._start(maintain, self.settings_of("maintenance", **changes))

    async def all_roles(self, *modules: str) -> Api:
        """One of each role; the worker has the handlers of ``modules``."""
        api = await self.api()
        await self.relay()
        await self.maintenance()
        await self.worker(worker_modules=modules)
        return api

    def settings_of(self, role: str, **changes: Any) -> Settings:
        """The settings that a process of ``role`` is deployed with: other roles' have values that it must not use."""
        installation = {name: getattr(self.settings, name) for name in self.settings.model_fields_set}
        others = {name.lower(): value for name, value in others_settings(role).items()}
        return Settings(_env_file=None, **installation | others | changes)

    def _start(self, role: Role, settings: Settings) -> RunningRole:
        running = RunningRole(role, settings)
        self._stack.push_async_callback(running.stop)
        return running

    async def api(self, **changes: Any) -> Api:
        """A live API on a free port, and a client for it."""
        app = create_app(self.settings_of("api", **changes))
        server = Server(Config(app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=5))
        serving = asyncio.create_task(server.serve())

        async def stop() -> None:
            server.should_exit = True
            await serving

        self._stack.push_async_callback(stop)
        while not server.started:
            if serving.done():
                serving.result()
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        session = await self._stack.enter_async_context(aiohttp.ClientSession())
        return Api(f"http://127.0.0.1:{port}", session)

    async def declare(self) -> BrokerConnection:
        """Declare the topology; returns an open connection for the test's own use."""
        connection = BrokerConnection(self.settings.rabbitmq_url, name="test")
        self._stack.push_async_callback(connection.close)
        await a_declarer(connection, self.settings).declare()
        return connection

    async def query(self, statement: str, **parameters: Any) -> list[Any]:
        """Rows of a statement of the test's own. It names columns: rows without any would pass for none."""
        assert not statement.startswith("SELECT FROM"), statement
        async with single_statement(self.engine) as connection:
            result = await connection.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []

    async def until(self, statement: str, *, seconds: float = 30, **parameters: Any) -> None:
        """Wait until the first column of the first row of ``statement`` is true."""
        try:
            async with asyncio.timeout(seconds):
                while not (await self.query(statement, **parameters))[0][0]:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s: {statement}") from None

    async def until_idle(self, *, seconds: float = 60) -> None:
        """Wait until every task is final and the outbox is empty."""
        await self.until(
            "SELECT NOT EXISTS (SELECT FROM aftercommit.tasks"
            " WHERE finished_at IS NULL) AND NOT EXISTS (SELECT FROM aftercommit.outbox_rows)",
            seconds=seconds,
        )


def a_declarer(connection: BrokerConnection, settings: Settings) -> Declarer:
    """Of the queues in QUEUES."""
    queues = KnownQueues(settings.queues)
    return Declarer(connection, settings, lambda: queues.work_queues)
