"""The way to Postgres: statements on asyncpg connections.

A statement of a few rows costs six times as much processor time through SQLAlchemy as on asyncpg itself, and planning
it costs as much as running it. A loop that sends the same statements all the time keeps a ``DatabaseConnection`` of its
own, on which their plans are made once; look-ups and periodic services share the connections of a ``Database``.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn, Protocol, Self

import asyncpg

from aftercommit.core.errors import DatabaseUnavailable
from aftercommit.core.settings import Settings
from aftercommit.db.outages import keeps_connection, translated

CONNECT_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 2.0
ACQUIRE_SECONDS: Final = 5.0
PLAN_SECONDS: Final = 10
"""A plan is kept for so long: one made for an empty table may read it all, and must not outlive that."""

STATEMENT_SECONDS: Final = 25.0
"""The longest statement, unless told otherwise. Postgres ends it before asyncpg gives it up, so that no statement goes
on that nobody waits for."""

IDLE_IN_TRANSACTION_SECONDS: Final = 30
"""A role that hangs inside a transaction loses it, and the locks with it."""

_GRACE_SECONDS: Final = 5.0

_COMMON: Final = {
    # What is worked on is in memory.
    "random_page_cost": "1.1",
    "jit": "off",
}
KEPT_PLANS: Final = _COMMON | {
    "plan_cache_mode": "force_generic_plan",
    # A plan that is kept may have been made while the tables were small; it should be right when they have grown.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
"""How Postgres plans the statements of a ``DatabaseConnection``."""

FRESH_PLANS: Final = _COMMON | {
    # A plan that was made while a table was small must not outlive its growth.
    "plan_cache_mode": "force_custom_plan",
}
"""How Postgres plans the statements of a ``Database``, and those of handlers."""

_KEEPALIVE: Final = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
"""Postgres notices within half a minute that a role's machine is gone, and gives its locks back."""


class Fetch(Protocol):
    """Sends one statement with its ``$n`` arguments; returns its rows, to be read by name."""

    async def __call__(self, statement: str, /, *arguments: Any) -> Sequence[Any]: ...


class DatabaseConnection:
    """A connection for one statement at a time. Connects at its first use, and again when the connection broke.

    As an async context manager it closes itself at the end.
    """

    def __init__(
        self,
        target: Settings | str,
        *,
        application: str,
        seconds: float = STATEMENT_SECONDS,
        planning: Mapping[str, str] = KEPT_PLANS,
    ) -> None:
        """``target`` is another database's where it is a DSN. No statement takes longer than ``seconds``.
        ``pg_stat_activity`` shows ``application``."""
        self._arguments: dict[str, Any] = {
            **(_address(target) if isinstance(target, Settings) else {"dsn": target}),
            "timeout": CONNECT_SECONDS,
            "command_timeout": seconds + _GRACE_SECONDS,
            "max_cached_statement_lifetime": PLAN_SECONDS,
            "server_settings": {"application_name": f"aftercommit-{application}"},
        }
        self._session = session_settings(
            {
                **planning,
                "statement_timeout": f"{seconds:.0f}s",
                "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_SECONDS}s",
            }
        )
        self._connection: asyncpg.Connection | None = None

    async def fetch(self, statement: str, /, *arguments: Any) -> Sequence[Any]:
        """Run a statement as its own transaction, in one round trip.

        Raises DatabaseUnavailable, DatabaseTimeout, StatementRefused for values that cannot be stored, and asyncpg's
        error for anything else. Whether a statement took effect whose answer was lost is unknown.
        """
        try:
            connection = await self._connected()
            rows: Sequence[Any] = await connection.fetch(statement, *arguments)
        except BaseException as error:
            self._raise(error)
        return rows

    @asynccontextmanager
    async def transaction(self, *, lock_seconds: float | None = None) -> AsyncIterator[Fetch]:
        """A transaction that commits at the end of the block; an error in the block closes the connection. With
        ``lock_seconds`` no statement waits longer than that for a lock.

        Raises like ``fetch``. Whether a commit took effect whose answer was lost is unknown.
        """
        try:
            connection = await self._connected()
            limit = "" if lock_seconds is None else f"; SET LOCAL lock_timeout = '{lock_seconds * 1000:.0f}ms'"
            await connection.execute(f"BEGIN{limit}")
            yield connection.fetch
            await connection.execute("COMMIT")
        except BaseException as error:
            self._drop()
            self._raise(error)

    @asynccontextmanager
    async def listening(self, channel: str, on_notify: Callable[[], None]) -> AsyncIterator[Fetch]:
        """Call ``on_notify`` at each NOTIFY on ``channel``. Yields a fetch for probing the connection, which is closed
        after the block. Raises like ``fetch``."""
        try:
            connection = await self._connected()
            await connection.add_listener(channel, lambda *_: on_notify())
            yield connection.fetch
        except BaseException as error:
            self._drop()
            self._raise(error)
        await self.close()

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
            connection = await asyncpg.connect(**self._arguments)
            self._connection = connection
            # After connecting, not as startup parameters: a PgBouncer in between refuses those.
            await connection.execute(self._session)
        return self._connection

    def _raise(self, error: BaseException) -> NoReturn:
        """Raise what ``error`` means to the caller. A connection on which a statement may still run is given up."""
        if not isinstance(error, Exception):
            self._drop()
            raise error
        if not keeps_connection(error):
            self._drop()
        meaning = translated(error)
        if meaning is error:
            raise error
        raise meaning from error

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


def _address(settings: Settings) -> dict[str, Any]:
    return {
        "host": settings.postgres_host,
        "port": settings.postgres_port,
        "user": settings.postgres_user,
        "password": settings.postgres_password or None,
        "database": settings.postgres_db,
    }


Connect = Callable[[], DatabaseConnection]
"""Makes a connection: each loop needs its own."""


class Database:
    """Up to ``size`` connections that callers share, opened when they are needed."""

    def __init__(
        self,
        settings: Settings,
        *,
        application: str,
        size: int | None = None,
        seconds: float = STATEMENT_SECONDS,
        planning: Mapping[str, str] = FRESH_PLANS,
    ) -> None:
        """``size`` is POSTGRES_POOL_SIZE unless given."""
        self._settings = settings
        self._application = application
        self._seconds = seconds
        self._planning = planning
        self._idle: list[DatabaseConnection] = []
        self._free = asyncio.Semaphore(size or settings.postgres_pool_size)

    async def fetch(self, statement: str, /, *arguments: Any) -> Sequence[Any]:
        """Run a statement as its own transaction. Raises like ``DatabaseConnection.fetch``, and DatabaseUnavailable
        when no connection comes free within ACQUIRE_SECONDS."""
        async with self._connection() as connection:
            return await connection.fetch(statement, *arguments)

    @asynccontextmanager
    async def transaction(self, *, lock_seconds: float | None = None) -> AsyncIterator[Fetch]:
        """A transaction that commits at the end of the block. With ``lock_seconds`` no statement waits longer than that
        for a lock. Raises like ``fetch``."""
        async with self._connection() as connection, connection.transaction(lock_seconds=lock_seconds) as fetch:
            yield fetch

    async def close(self) -> None:
        """Close the idle connections; nothing may be under way."""
        while self._idle:
            await self._idle.pop().close()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[DatabaseConnection]:
        try:
            async with asyncio.timeout(ACQUIRE_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            raise DatabaseUnavailable(
                f"No connection to Postgres came free within {ACQUIRE_SECONDS:g} s: POSTGRES_POOL_SIZE is their number."
            ) from None
        connection = self._idle.pop() if self._idle else self._open()
        try:
            yield connection
        finally:
            self._idle.append(connection)
            self._free.release()

    def _open(self) -> DatabaseConnection:
        return DatabaseConnection(
            self._settings, application=self._application, seconds=self._seconds, planning=self._planning
        )


def session_settings(values: Mapping[str, str]) -> str:
    """One string of SET statements. ``values`` are our own constants."""
    return "".join(f"SET {name} = '{value}';" for name, value in (_KEEPALIVE | dict(values)).items())
