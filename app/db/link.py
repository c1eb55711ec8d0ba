"""The way to Postgres for what happens all the time: claims, records, submits, the relay's rounds.

A statement of a few rows costs six times as much processor time through SQLAlchemy as on asyncpg itself, and planning
it costs as much as running it. So each loop that sends such statements keeps a connection of its own, on which their
plans are made once.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn, Protocol, Self

import asyncpg

from app.config import Settings
from app.errors import DatabaseUnavailable

CLOSE_SECONDS: Final = 2.0
PLAN_SECONDS: Final = 10
"""A plan is kept for so long: one made for an empty table may read it all, and must not outlive that."""

STATEMENT_SECONDS: Final = 25.0
"""What a statement of a link may take, unless told. Postgres ends it before asyncpg gives it up, so that none goes on
that nobody waits for."""

_GRACE_SECONDS: Final = 5.0

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

_KEEPALIVE: Final = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
_OUTAGE_CLASSES: Final = ("08", "28", "3D", "53", "57")
"""SQLSTATE classes: connection, login, no such database, out of resources, stopped by an operator."""

READ_ONLY: Final = "25006"
"""The server takes no writes: a standby, or one whose disk is nearly full."""

_TRY_AGAIN: Final = frozenset({"40001", "40P01", READ_ONLY})
"""With serialization failure and deadlock."""

_REFUSAL_CLASSES: Final = ("22", "23", "54")
"""SQLSTATE classes that are about values: data exception, integrity, a limit exceeded."""


def connect_arguments(application: str, planning: Mapping[str, str]) -> dict[str, Any]:
    """Of asyncpg: no call hangs, ``pg_stat_activity`` names the role, and of a role whose machine is gone Postgres
    gives the locks back."""
    return {
        "timeout": 5,
        "command_timeout": STATEMENT_SECONDS + _GRACE_SECONDS,
        "server_settings": {"application_name": f"aftercommit-{application}", **_KEEPALIVE, **planning},
    }


def is_outage(error: BaseException) -> bool:
    """Whether ``error`` says that Postgres is away, starting or stopping, rather than that a statement is wrong."""
    if isinstance(error, asyncpg.PostgresError):
        return is_outage_state(error)
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, ValueError)  # a value that does not fit its parameter
    return isinstance(error, OSError | asyncio.TimeoutError | asyncpg.InternalClientError)


def is_outage_state(error: BaseException | None) -> bool:
    code = state(error)
    return code.startswith(_OUTAGE_CLASSES) or code in _TRY_AGAIN


def _is_refusal(error: BaseException) -> bool:
    """Whether ``error`` says that values cannot be stored, now or later."""
    if isinstance(error, asyncpg.PostgresError):
        return state(error).startswith(_REFUSAL_CLASSES)
    return isinstance(error, asyncpg.InterfaceError)  # those that are no outage


def state(error: BaseException | None) -> str:
    """Postgres's SQLSTATE, or nothing."""
    return getattr(error, "sqlstate", None) or ""


class Fetch(Protocol):
    """Sends one statement with its ``$n`` arguments; returns its rows."""

    async def __call__(self, statement: str, /, *arguments: Any) -> Sequence[Any]: ...


class StatementRefused(Exception):
    """Postgres, or the driver before it, does not take the values of a statement."""


class Link:
    """For one statement at a time. Connects when it is first used, and again when the connection broke.

    As an async context manager it closes itself at the end.
    """

    def __init__(self, settings: Settings, *, application: str, seconds: float = STATEMENT_SECONDS) -> None:
        """No statement takes longer than ``seconds``."""
        bound = {"statement_timeout": f"{seconds:.0f}s"}
        self._arguments = {
            "host": settings.postgres_host,
            "port": settings.postgres_port,
            "user": settings.postgres_user,
            "password": settings.postgres_password or None,
            "database": settings.postgres_db,
            "max_cached_statement_lifetime": PLAN_SECONDS,
            **connect_arguments(application, PLANNING | bound),
            "command_timeout": seconds + _GRACE_SECONDS,
        }
        self._connection: asyncpg.Connection | None = None

    async def fetch(self, statement: str, /, *arguments: Any) -> Sequence[Any]:
        """Its own transaction, in one round trip. Raises DatabaseUnavailable, StatementRefused for values that cannot
        be stored, and asyncpg's error for anything else; whether a statement took effect whose answer was lost is
        unknown."""
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

    @asynccontextmanager
    async def listening(self, channel: str, on_call: Callable[[], None]) -> AsyncIterator[Fetch]:
        """``on_call`` is called at each NOTIFY on ``channel``, for as long as the connection lives: what is given finds
        out, and the connection ends with the block. Raises like ``fetch``."""
        try:
            connection = await self._connected()
            await connection.add_listener(channel, lambda *_: on_call())
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
            self._connection = await asyncpg.connect(**self._arguments)
        return self._connection

    def _raise(self, error: BaseException) -> NoReturn:
        """What ``error`` means to our caller. A connection on which a statement may still run is not used again."""
        if not isinstance(error, Exception):
            self._drop()
        elif is_outage(error):
            self._drop()
            raise DatabaseUnavailable("Postgres cannot be reached right now. Try again.") from error
        elif _is_refusal(error):
            raise StatementRefused(str(error)) from error
        raise error

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


Connect = Callable[[], Link]
"""Makes a link: each loop needs its own."""
