"""``aftercommit.sql``: the same call on the connections and sessions of each driver."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type
from uuid import UUID

import asyncpg
import psycopg
import pytest
import sqlalchemy
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from aftercommit import Delays, sql
from aftercommit.core.settings import Settings
from aftercommit.sql import TaskRequest
from tests.integration.callers import ORDERS, calling, counts, django_database, dsn_of, know
from tests.integration.conftest import ROOT
from tests.integration.service import Service

Use = Callable[[Settings, bool], Awaitable[list[UUID]]]
"""Submits three tasks in one transaction that also writes a row of its own, ended by a commit or not; their ids."""

INSERT = "INSERT INTO public.orders VALUES (17)"
REQUESTS = [TaskRequest("echo", {"n": 2}, {}), TaskRequest("echo", {"n": 3}, {"priority": "high"})]


async def on_psycopg(settings: Settings, commit: bool) -> list[UUID]:
    return await asyncio.to_thread(_on_psycopg, settings, commit)


def _on_psycopg(settings: Settings, commit: bool) -> list[UUID]:
    with psycopg.connect(dsn_of(settings), row_factory=dict_row) as connection:
        connection.execute(INSERT)
        first = assert_type(sql.submit(connection, "echo", {"n": 1}), UUID)
        others = assert_type(sql.submit_many(connection, REQUESTS), list[UUID])
        if not commit:
            connection.rollback()
    return [first, *others]


async def on_psycopg_async(settings: Settings, commit: bool) -> list[UUID]:
    async with await psycopg.AsyncConnection.connect(dsn_of(settings)) as connection:
        await connection.execute(INSERT)
        first = assert_type(await sql.submit(connection, "echo", {"n": 1}), UUID)
        others = assert_type(await sql.submit_many(connection, REQUESTS), list[UUID])
        if not commit:
            await connection.rollback()
    return [first, *others]


async def on_asyncpg(settings: Settings, commit: bool) -> list[UUID]:
    connection = await asyncpg.connect(dsn_of(settings))
    # As many do: values of these types are encoded by the connection.
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    try:
        return await _on_asyncpg(connection, commit)
    finally:
        await connection.close()


async def on_asyncpg_pool(settings: Settings, commit: bool) -> list[UUID]:
    async with asyncpg.create_pool(dsn_of(settings), min_size=1) as pool, pool.acquire() as connection:
        return await _on_asyncpg(connection, commit)


async def _on_asyncpg(connection: Any, commit: bool) -> list[UUID]:
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(INSERT)
    ids = [await sql.submit(connection, "echo", {"n": 1}), *await sql.submit_many(connection, REQUESTS)]
    await (transaction.commit() if commit else transaction.rollback())
    return ids


async def on_sqlalchemy(settings: Settings, commit: bool) -> list[UUID]:
    return await asyncio.to_thread(_on_sqlalchemy, settings, commit, session=False)


async def on_sqlalchemy_session(settings: Settings, commit: bool) -> list[UUID]:
    return await asyncio.to_thread(_on_sqlalchemy, settings, commit, session=True)


def _on_sqlalchemy(settings: Settings, commit: bool, *, session: bool) -> list[UUID]:
    engine = sqlalchemy.create_engine(dsn_of(settings, drivername="postgresql+psycopg"), poolclass=NullPool)
    with Session(engine) if session else engine.connect() as connection:
        connection.execute(sqlalchemy.text(INSERT))
        first = assert_type(sql.submit(connection, "echo", {"n": 1}), UUID)
        others = assert_type(sql.submit_many(connection, REQUESTS), list[UUID])
        if commit:
            connection.commit()
    return [first, *others]


@asynccontextmanager
async def sqlalchemy_connection(
    settings: Settings, *, driver: str, session: bool
) -> AsyncIterator[AsyncConnection | AsyncSession]:
    engine = create_async_engine(dsn_of(settings, drivername=f"postgresql+{driver}"), poolclass=NullPool)
    async with AsyncSession(engine) if session else engine.connect() as connection:
        yield connection
    await engine.dispose()


def on_sqlalchemy_async(driver: str, *, session: bool) -> Use:
    async def use(settings: Settings, commit: bool) -> list[UUID]:
        async with sqlalchemy_connection(settings, driver=driver, session=session) as connection:
            await connection.execute(sqlalchemy.text(INSERT))
            first = assert_type(await sql.submit(connection, "echo", {"n": 1}), UUID)
            others = assert_type(await sql.submit_many(connection, REQUESTS), list[UUID])
            if commit:
                await connection.commit()
        return [first, *others]

    return use


DJANGO = f"""
import json, os, sys
import django
from django.conf import settings

settings.configure(DATABASES={{"default": json.loads(os.environ["DATABASE"])}}, INSTALLED_APPS=[])
django.setup()

from django.db import connection, transaction
from aftercommit import sql
from aftercommit.sql import TaskRequest

class Undo(Exception):
    pass

try:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("{INSERT}")
        ids = [sql.submit(connection, "echo", {{"n": 1}})]
        ids += sql.submit_many(connection, [TaskRequest("echo", {{"n": n}}, {{}}) for n in (2, 3)])
        if sys.argv[1] != "commit":
            raise Undo
except Undo:
    pass
print(*ids)
"""


async def on_django(settings: Settings, commit: bool) -> list[UUID]:
    """In a process of its own: Django is configured once in a process."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", DJANGO, "commit" if commit else "rollback"],
        cwd=ROOT,
        env={**os.environ, "DATABASE": json.dumps(django_database(settings))},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return [UUID(each) for each in done.stdout.split()]


USES: dict[str, Use] = {
    "psycopg": on_psycopg,
    "psycopg async": on_psycopg_async,
    "asyncpg": on_asyncpg,
    "asyncpg pool": on_asyncpg_pool,
    "sqlalchemy": on_sqlalchemy,
    "sqlalchemy session": on_sqlalchemy_session,
    "sqlalchemy on asyncpg": on_sqlalchemy_async("asyncpg", session=False),
    "sqlalchemy session on asyncpg": on_sqlalchemy_async("asyncpg", session=True),
    "sqlalchemy on psycopg async": on_sqlalchemy_async("psycopg", session=False),
    "django": on_django,
}


@pytest.fixture(autouse=True)
async def orders(service: Service) -> None:
    await know(service)
    async with calling(service) as connection:
        await connection.execute(ORDERS)


@pytest.mark.parametrize("name", USES)
async def test_transaction_that_commits_has_its_tasks_once(name: str, service: Service) -> None:
    ids = await USES[name](service.settings, True)
    rows = await service.query("SELECT id, payload ->> 'n' FROM aftercommit.tasks ORDER BY id")
    assert [tuple(row) for row in rows] == list(zip(ids, "123", strict=True))
    assert all(isinstance(each, UUID) for each in ids)
    (row,) = await service.query("SELECT count(*) FROM public.orders")
    assert row[0] == 1


@pytest.mark.parametrize("name", USES)
async def test_transaction_that_rolls_back_has_none(name: str, service: Service) -> None:
    assert len(await USES[name](service.settings, False)) == 3
    assert await counts(service) == (0, 0, 0, 0)
    (row,) = await service.query("SELECT count(*) FROM public.orders")
    assert row[0] == 0


async def test_every_option_is_passed_on(service: Service) -> None:
    options: sql.TaskOptions = {
        "queue": "tasks",
        "priority": "low",
        "max_retries": 5,
        "timeout_seconds": 1.5,
        "tags": ("a", "b"),
        "retry": Delays(5, 30),
        "result_ttl_seconds": 60,
        "run_at": datetime(2031, 1, 1, tzinfo=UTC),
        "expires_at": datetime(2032, 1, 1, 0, 0, 0, 5, tzinfo=UTC),
        "unique": {"key": "k"},
    }
    async with calling(service) as connection:
        first = await sql.submit(connection, "echo", {"n": 1}, idempotency_key="i", **options)
        again = await sql.submit(connection, TaskRequest("echo", {"n": 1}, options), idempotency_key="i")
        await sql.submit(connection, "echo", delay_seconds=5, expires_in_seconds=10)
    assert first == again
    rows = await service.query(
        "SELECT priority, max_retries, timeout_seconds, tags, retry ->> 'delays_seconds' AS retry, result_ttl_seconds,"
        " due_at, expires_at, uniqueness ->> 'key' AS key, payload::text AS payload FROM aftercommit.tasks ORDER BY id"
    )
    assert tuple(rows[0]) == (
        *("low", 5, 1.5, ["a", "b"], "[5, 30]", 60.0, options["run_at"], options["expires_at"], "k", '{"n": 1}'),
    )
    assert (rows[1].payload, rows[1].expires_at - rows[1].due_at) == ("{}", timedelta(seconds=5))


async def test_refusal_is_the_driver_s_own_error(settings: Settings) -> None:
    with psycopg.connect(dsn_of(settings)) as connection:
        with pytest.raises(psycopg.Error) as caught:
            sql.submit(connection, "echo", queue="nowhere")
        assert (caught.value.sqlstate, caught.value.diag.column_name) == ("AC002", "tasks/0/queue")


async def test_time_without_a_zone_is_refused(settings: Settings) -> None:
    with psycopg.connect(dsn_of(settings)) as connection, pytest.raises(ValueError, match=r"run_at .* time zone"):
        sql.submit(connection, "echo", run_at=datetime(2031, 1, 1))  # noqa: DTZ001  # that is what is tried
