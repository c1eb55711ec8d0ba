"""The way to Postgres for what happens all the time: claims, records, submits, the relay's rounds.

A statement of a few rows costs six times as much processor time through SQLAlchemy as on asyncpg itself, and planning
it costs as much as running it. So each loop that sends such statements keeps a connection of its own, on which their
plans are made once.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn, Protocol, Self

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from app.config import Settings
from app.db.engine import connect_arguments, is_outage
from app.errors import DatabaseUnavailable

CLOSE_SECONDS: Final = 2.0
PLAN_SECONDS: Final = 10
"""A plan is kept for so long: one made for an empty table may read it all, and must not outlive that."""

_BOUND: Final = {"statement_timeout": "25s"}
"""Before asyncpg gives a statement up, so that none goes on that nobody waits for."""

PLANNING: Final = {
    "plan_cache_mode": "force_generic_plan",
    # A plan that is kept may have been made while the tables were small; it should be right when they have grown.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "random_page_cost": "1.1",
    "jit": "off",
}
"""How Postgres plans these statements."""


class Fetch(Protocol):
    """Sends one statement with its ``$n`` arguments; returns its rows."""

    async def __call__(self, statement: str, /, *arguments: Any) -> Sequence[Any]: ...


class StatementRefused(Exception):
    """Postgres, or the driver before it, does not take the values of a statement."""


class Link:
    """For one statement at a time. Connects when it is first used, and again when the connection broke.

    As an async context manager it closes itself at the end.
    """

    def __init__(self, settings: Settings, *, application: str) -> None:
        self._arguments = {
            "host": settings.postgres_host,
            "port": settings.postgres_port,
            "user": settings.postgres_user,
            "password": settings.postgres_password or None,
            "database": settings.postgres_db,
            "max_cached_statement_lifetime": PLAN_SECONDS,
            **connect_arguments(application, PLANNING | _BOUND),
        }
        self._connection: asyncpg.Connection | None = None

    async def fetch(self, statement: str, /, *arguments: Any) -> Sequence[Any]:
        """Its own transaction, in one round trip. Raises DatabaseUnavailable, and StatementRefused for values that
        cannot be stored; whether a statement took effect whose answer was lost is unknown."""
        try:
            connection = await self._connected()
            rows: Sequence[Any] = await connection.fetch(statement, *arguments)
        except BaseException as error:
            self._raise(error)
        return rows

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Fetch]:
        """Commits at the end of the block. One that ends with an error ends with its connection. Raises like ``fetch``;
        whether a commit took effect whose answer was lost is unknown."""
        try:
            connection = await self._connected()
            await connection.execute("BEGIN")
            yield connection.fetch
            await connection.execute("COMMIT")
        except BaseException as error:
            self._drop()
            self._raise(error)

    async def close(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            try:
                await self._connection.close(timeout=CLOSE_SECONDS)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                self._drop()  # it broke or does not answer: there is nothing to say goodbye to
        self._connection = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(**self._arguments)
        return self._connection

    def _raise(self, error: BaseException) -> NoReturn:
        """What ``error`` means to our caller. A connection on which a statement may still run is not used again."""
        if not isinstance(error, Exception):
            self._drop()
        elif is_outage(error):
            self._drop()
            raise DatabaseUnavailable("Postgres cannot be reached right now. Try again.") from error
        elif isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
            raise StatementRefused(str(error)) from error
        raise error

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


Connect = Callable[[], Link]
"""Makes a link: each loop needs its own."""


def within(connection: AsyncConnection) -> Fetch:
    """The same statements in a transaction of SQLAlchemy's."""

    async def fetch(statement: str, /, *arguments: Any) -> Sequence[Any]:
        return (await connection.exec_driver_sql(statement, arguments)).all()

    return fetch
