"""SQLAlchemy's engine: for the session that ``context.transaction()`` gives to handlers, and for Alembic."""

from collections.abc import Sequence
from typing import Any

import asyncpg
from sqlalchemy import URL, ExceptionContext, event
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from aftercommit.core.settings import Settings
from aftercommit.db import outages
from aftercommit.db.database import CONNECT_SECONDS, FRESH_PLANS, STATEMENT_SECONDS, Fetch, session_settings
from aftercommit.db.outages import NO_ROOM, READ_ONLY, is_outage_state, sqlstate


def database_url(settings: Settings) -> URL:
    return URL.create(
        "postgresql+asyncpg",
        username=settings.postgres_user,
        password=settings.postgres_password or None,
        host=settings.postgres_host,
        port=settings.postgres_port,
        database=settings.postgres_db,
    )


def create_engine(
    settings: Settings, *, application: str, size: int, seconds: float = STATEMENT_SECONDS
) -> AsyncEngine:
    """A pool of up to ``size`` connections whose statements may take ``seconds``."""
    engine = create_async_engine(
        database_url(settings),
        pool_size=size,
        max_overflow=0,
        pool_timeout=5,
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": seconds + 5,
            "server_settings": {"application_name": f"aftercommit-{application}"},
        },
    )
    session = session_settings(FRESH_PLANS | {"statement_timeout": f"{seconds:.0f}s"})

    def set_up(connection: Any, _: object) -> None:
        connection.run_async(lambda driver: driver.execute(session))

    event.listen(engine.sync_engine, "connect", set_up)
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    event.listen(engine.sync_engine, "handle_error", _leave_standby)
    return engine


def _refuse_closed(connection: Any, *_: object) -> None:
    """Replace a connection that a restart closed instead of failing its first statement: asyncpg knows, so no round
    trip is needed to ask."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError("Postgres closed the connection")


def _leave_standby(context: ExceptionContext) -> None:
    """Leave a server that takes no writes: the address may lead to the primary by now."""
    if sqlstate(context.original_exception) == READ_ONLY:
        context.is_disconnect = True


def within(connection: AsyncConnection) -> Fetch:
    """Run the statements of ``db`` in a transaction of SQLAlchemy's."""

    async def fetch(statement: str, /, *arguments: Any) -> Sequence[Any]:
        return (await connection.exec_driver_sql(statement, arguments)).mappings().all()

    return fetch


def is_outage(error: BaseException) -> bool:
    """As ``outages.is_outage``, of SQLAlchemy's errors too."""
    if isinstance(error, DBAPIError):
        # A value that does not fit its parameter is an interface error of asyncpg's, too.
        broken = isinstance(error, InterfaceError) and not isinstance(_cause(error), asyncpg.DataError)
        return error.connection_invalidated or broken or is_outage_state(sqlstate(error.orig))
    return isinstance(error, PoolTimeout) or outages.is_outage(error)


def is_exhausted(error: DBAPIError) -> bool:
    """Whether Postgres is there and has no room: on its disk, or for connections. A statement that wants too much
    memory is the statement's own affair."""
    return sqlstate(error.orig) in NO_ROOM


def _cause(error: DBAPIError) -> BaseException | None:
    return error.orig.__cause__ if error.orig is not None else None
