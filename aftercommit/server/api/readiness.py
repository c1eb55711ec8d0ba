"""What ``/readyz`` answers from: checks of Postgres and RabbitMQ that run in the background.

A probe never waits for either: a server that accepts connections and says nothing would make every probe time out.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from aftercommit.broker.inspection import Inspector
from aftercommit.core.errors import AftercommitError, DatabaseTimeout, DatabaseUnavailable
from aftercommit.db import schema_version
from aftercommit.db.database import DatabaseConnection
from aftercommit.runtime.poll import poll

log = structlog.get_logger(__name__)

UP: Final = "up"
NOT_CHECKED: Final = "not checked yet"
CHECK_INTERVAL_SECONDS: Final = 2.0
POSTGRES_SECONDS: Final = 3.0
BROKER_SECONDS: Final = 5.0


class Check:
    """The last known state of one server: UP, NOT_CHECKED, or a sentence that says what is wrong."""

    def __init__(self, name: str, ask: Callable[[], Awaitable[None]], *, seconds: float) -> None:
        """``ask`` raises an AftercommitError that says what is wrong; after ``seconds`` it is given up."""
        self.state = NOT_CHECKED
        self._name = name
        self._ask = ask
        self._seconds = seconds

    async def run(self, stopping: asyncio.Event) -> None:
        await poll(f"check-{self._name}", self._tick, stopping=stopping)

    async def _tick(self) -> float:
        try:
            async with asyncio.timeout(self._seconds):
                await self._ask()
        except TimeoutError:
            self._note(f"{self._name} does not answer within {self._seconds:g} s.")
        except AftercommitError as error:
            self._note(error.detail, error)
        except Exception as error:
            self._note(f"{self._name} cannot be asked: {type(error).__name__}. The API's log has the details.", error)
            raise
        else:
            self._note(UP)
        return CHECK_INTERVAL_SECONDS

    def _note(self, state: str, error: Exception | None = None) -> None:
        before, self.state = self.state, state
        if state == UP and before not in (UP, NOT_CHECKED):
            log.info("server_is_back", server=self._name)
        elif state != UP and before in (UP, NOT_CHECKED):
            log.warning("server_is_away", server=self._name, reason=state, exc_info=error)


class Readiness:
    def __init__(self, *, connection: DatabaseConnection, inspector: Inspector) -> None:
        """``connection`` is for the check alone: it must not wait for one that requests use."""
        self._connection = connection
        self.migrations = NOT_CHECKED
        self._postgres = Check("Postgres", self._ask_postgres, seconds=POSTGRES_SECONDS)
        self._broker = Check("RabbitMQ", inspector.check, seconds=BROKER_SECONDS)

    @property
    def postgres(self) -> str:
        return self._postgres.state

    @property
    def broker(self) -> str:
        return self._broker.state

    async def run(self, stopping: asyncio.Event) -> None:
        async with self._connection, asyncio.TaskGroup() as group:
            group.create_task(self._postgres.run(stopping))
            group.create_task(self._broker.run(stopping))

    async def _ask_postgres(self) -> None:
        try:
            current = await schema_version.current(self._connection.fetch)
        except (DatabaseUnavailable, DatabaseTimeout):
            self.migrations = "unknown"
            raise
        outdated = current is None or current < schema_version.HEAD
        self.migrations = f"at {current}, this code needs {schema_version.HEAD}: run the migrations" if outdated else UP
