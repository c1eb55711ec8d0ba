"""The way to Postgres: one engine per process, and a transaction that turns lost connections into one error."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import asyncpg
from sqlalchemy import URL, ExceptionContext, event
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.config import Settings
from app.db import link
from app.db.link import READ_ONLY, Fetch, connect_arguments, is_outage_state, state
from app.errors import DatabaseUnavailable

PLANNING: Final = {
    # A plan that was made while a table was small must not outlive its growth.
    "plan_cache_mode": "force_custom_plan",
    # What is worked on is in memory.
    "random_page_cost": "1.1",
    "jit": "off",
}
"""How Postgres plans our statements."""


def database_url(settings: Settings) -> URL:
    return URL.create(
        "postgresql+asyncpg",
        username=settings.postgres_user,
        password=settings.postgres_password or None,
        host=settings.postgres_host,
        port=settings.postgres_port,
        database=settings.postgres_db,
    )


def create_engine(settings: Settings, *, application: str) -> AsyncEngine:
    """One pool of up to POSTGRES_POOL_SIZE connections."""
    engine = create_async_engine(
        database_url(settings),
        pool_size=settings.postgres_pool_size,
        max_overflow=0,
        pool_timeout=5,
        connect_args=connect_arguments(application, PLANNING),
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    event.listen(engine.sync_engine, "handle_error", _leave_standby)
    return engine


def _refuse_closed(connection: Any, *_: object) -> None:
    """A connection that a restart closed is replaced instead of failing its first statement: asyncpg knows, so that
    no round trip is needed to ask."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError("Postgres closed the connection")


def _leave_standby(context: ExceptionContext) -> None:
    """A server that takes no writes is left: the address may lead to the primary by now."""
    if state(context.original_exception) == READ_ONLY:
        context.is_disconnect = True


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that commits at the end of the block.

    Raises DatabaseUnavailable when Postgres cannot be reached or went away; whether a commit under way took effect
    is then unknown, so what runs in it must bear being run again.
    """
    with _translated():
        async with engine.begin() as connection:
            yield connection


@asynccontextmanager
async def single_statement(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection on which each statement is its own transaction: one round trip instead of three."""
    with _translated():
        async with engine.connect() as connection:
            yield await connection.execution_options(isolation_level="AUTOCOMMIT")


def within(connection: AsyncConnection) -> Fetch:
    """The statements of a link, in a transaction of SQLAlchemy's."""

    async def fetch(statement: str, /, *arguments: Any) -> Sequence[Any]:
        return (await connection.exec_driver_sql(statement, arguments)).all()

    return fetch


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if is_outage(error):
            raise DatabaseUnavailable("Postgres cannot be reached right now. Try again.") from error
        raise


_NO_ROOM: Final = frozenset({"53100", "53300"})


def is_outage(error: BaseException) -> bool:
    """Whether ``error`` says that Postgres is away, starting or stopping, rather than that a statement is wrong."""
    if isinstance(error, DBAPIError):
        # A value that does not fit its parameter is an interface error of asyncpg's, too.
        broken = isinstance(error, InterfaceError) and not isinstance(_cause(error), asyncpg.DataError)
        return error.connection_invalidated or broken or is_outage_state(error.orig)
    return isinstance(error, PoolTimeout) or link.is_outage(error)


def is_exhausted(error: DBAPIError) -> bool:
    """Whether Postgres is there and has no room: on its disk, or for connections. A statement that wants too much
    memory is the statement's own affair."""
    return state(error.orig) in _NO_ROOM


def _cause(error: DBAPIError) -> BaseException | None:
    return error.orig.__cause__ if error.orig is not None else None
