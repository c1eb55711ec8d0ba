"""Callers in the same database, who submit in transactions of their own."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from aftercommit.core.settings import Settings
from aftercommit.db import announcements
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.engine import database_url
from tests.integration.service import Service

ORDERS = "CREATE TABLE IF NOT EXISTS public.orders (id bigint PRIMARY KEY)"
ECHO = "SELECT aftercommit.submit_task('echo')"
TABLES = ("tasks", "outbox_rows", "idempotency_keys", "unique_keys")


def dsn_of(settings: Settings, *, drivername: str = "postgresql", login: str | None = None) -> str:
    """The database's address; with ``login``, for the role of that name and password."""
    url = database_url(settings).set(drivername=drivername)
    if login is not None:
        url = url.set(username=login, password=login)
    return url.render_as_string(hide_password=False)


def django_database(settings: Settings) -> dict[str, Any]:
    """As Django's setting DATABASES has it."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": settings.postgres_db,
        "USER": settings.postgres_user,
        "PASSWORD": settings.postgres_password,
        "HOST": settings.postgres_host,
        "PORT": settings.postgres_port,
    }


@asynccontextmanager
async def calling(service: Service, *, login: str | None = None) -> AsyncIterator[asyncpg.Connection]:
    """A connection of a caller's."""
    connection = await asyncpg.connect(dsn_of(service.settings, login=login))
    try:
        yield connection
    finally:
        await connection.close()


async def know(service: Service, *queues: str) -> None:
    """Have these queues known, as the start of the API or of maintenance does."""
    async with DatabaseConnection(service.settings, application="test") as connection:
        await announcements.queues(connection.fetch, queues or service.settings.queues)


async def refusal(connection: asyncpg.Connection, statement: str, *arguments: Any) -> tuple[str, str]:
    """SQLSTATE and column of the error that ``statement`` ends with."""
    with pytest.raises(asyncpg.PostgresError) as caught:
        await connection.fetch(statement, *arguments)
    error: Any = caught.value
    assert error.column_name is None or str(error).startswith(f"{error.column_name}: ")
    return error.sqlstate, error.column_name or ""


async def counts(service: Service) -> Sequence[int]:
    """The rows of each of TABLES."""
    found = ", ".join(f"(SELECT count(*) FROM aftercommit.{table})" for table in TABLES)
    return tuple((await service.query(f"SELECT {found}"))[0])
