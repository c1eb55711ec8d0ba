"""The migrations against the models, up and down."""

import asyncio
import os
import socket
import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from aftercommit.core.settings import Settings
from aftercommit.db.models import SCHEMA, metadata
from aftercommit.db.schema_version import HEAD
from aftercommit.devstack.servers import Servers
from tests.integration.conftest import ROOT, connect_admin
from tests.integration.service import Service
from tests.integration.tcp_proxy import TcpProxy


def environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "POSTGRES_HOST": settings.postgres_host,
        "POSTGRES_PORT": str(settings.postgres_port),
        "POSTGRES_USER": settings.postgres_user,
        "POSTGRES_PASSWORD": settings.postgres_password,
        "POSTGRES_DB": settings.postgres_db,
    }


async def alembic(settings: Settings, *words: str) -> None:
    command = [sys.executable, "-m", "alembic", *words]
    await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=ROOT,
        env=environment(settings),
        check=True,
        timeout=60,
        stderr=subprocess.PIPE,
        text=True,
    )


async def differences(service: Service) -> list[object]:
    def compare(connection: Connection) -> list[object]:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_server_default": True,
                "version_table_schema": SCHEMA,
                "include_schemas": True,
                "include_name": lambda name, kind, _: kind != "schema" or name == SCHEMA,
            },
        )
        return list(compare_metadata(context, metadata))

    # Of a user named like the schema it would be the default one, which Alembic does not name.
    engine = create_async_engine(
        service.engine.url, poolclass=NullPool, connect_args={"server_settings": {"search_path": "public"}}
    )
    async with engine.connect() as connection:
        return await connection.run_sync(compare)


async def test_migrations_lead_to_the_models(service: Service) -> None:
    assert await differences(service) == []


async def test_migrations_lead_there_again_when_all_were_taken_back(service: Service) -> None:
    await service.engine.dispose()
    await alembic(service.settings, "downgrade", "base")
    tables = await service.query("SELECT tablename FROM pg_tables WHERE schemaname = 'aftercommit'")
    assert [row[0] for row in tables] == ["alembic_version"]
    await service.engine.dispose()
    await alembic(service.settings, "upgrade", "head")
    assert await differences(service) == []


async def test_runner_gives_up_when_another_one_does_not_end(service: Service) -> None:
    async with service.engine.connect() as other:
        await other.execute(text("SELECT pg_advisory_lock(7236001)"))
        with pytest.raises(subprocess.CalledProcessError) as caught:
            await alembic(service.settings, "-x", "runners_timeout=100ms", "upgrade", "head")
    assert "lock timeout" in caught.value.stderr


async def test_migration_gives_up_when_a_table_stays_locked(service: Service) -> None:
    await alembic(service.settings, "downgrade", "0003")  # 0004 changes the table that is locked
    async with service.engine.begin() as other:
        await other.execute(text("LOCK TABLE aftercommit.outbox IN ACCESS SHARE MODE"))
        with pytest.raises(subprocess.CalledProcessError) as caught:
            await alembic(service.settings, "upgrade", "head")
    assert "lock timeout" in caught.value.stderr


async def test_runner_gives_up_when_the_server_says_nothing(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        settings = service.settings.model_copy(update={"postgres_host": "127.0.0.1", "postgres_port": port})
        with pytest.raises(subprocess.CalledProcessError) as caught:
            await alembic(settings, "upgrade", "head")
    assert "TimeoutError" in caught.value.stderr


async def test_runner_waits_for_a_server_that_starts(service: Service) -> None:
    settings = service.settings
    proxy = TcpProxy(settings.postgres_host, settings.postgres_port)
    behind = settings.model_copy(update={"postgres_host": "127.0.0.1", "postgres_port": proxy.port})
    runner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "alembic", "upgrade", "head"),
        cwd=ROOT,
        env=environment(behind),
        stderr=asyncio.subprocess.PIPE,
    )
    assert runner.stderr is not None
    async with asyncio.timeout(60):
        assert b"not up yet" in await runner.stderr.readline()
        await proxy.start()
        assert await runner.wait() == 0
    await proxy.stop()


TABLES_AT_0003 = ("tasks", "attempts", "outbox", "idempotency_keys", "workers", "claims", "work_queue_marks")


async def empty(service: Service) -> None:
    """Take everything away, as if this service had never been here."""
    await service.query("DROP SCHEMA aftercommit CASCADE")
    await service.engine.dispose()


async def test_tables_of_the_release_before_move_with_their_rows(service: Service) -> None:
    await empty(service)
    await alembic(service.settings, "upgrade", "0003")
    for table in (*TABLES_AT_0003, "alembic_version"):
        await service.query(f"ALTER TABLE aftercommit.{table} SET SCHEMA public")
    await service.query("DROP SCHEMA aftercommit")
    await service.query(
        "INSERT INTO public.tasks (id, type, queue, priority, status, payload, rung)"
        " VALUES (gen_random_uuid(), 'echo', 'tasks', 'low', 'retrying', '{}', false)"
    )
    (before,) = await service.query("SELECT relfilenode FROM pg_class WHERE oid = 'public.tasks'::regclass")
    await service.engine.dispose()
    await alembic(service.settings, "upgrade", "head")
    assert await differences(service) == []
    (task,) = await service.query("SELECT status, enqueued FROM aftercommit.tasks")
    assert tuple(task) == ("retrying", False)
    (after,) = await service.query("SELECT relfilenode FROM pg_class WHERE oid = 'aftercommit.tasks'::regclass")
    assert after == before  # no row was copied
    assert await service.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []


async def test_tables_of_an_application_in_the_same_database_are_left_alone(service: Service) -> None:
    await empty(service)
    for table in ("tasks", "workers", "claims", "outbox", "alembic_version"):
        await service.query(f"CREATE TABLE public.{table} AS SELECT '0003'::text AS version_num")
    await alembic(service.settings, "upgrade", "head")
    assert await differences(service) == []
    for table in ("tasks", "workers", "claims", "outbox", "alembic_version"):
        assert [tuple(row) for row in await service.query(f"SELECT * FROM public.{table}")] == [("0003",)]
    await service.engine.dispose()
    await alembic(service.settings, "downgrade", "base")
    assert len(await service.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")) == 5


async def test_user_who_may_create_no_schema_migrates_into_one_that_was_made_for_it(
    service: Service, servers: Servers
) -> None:
    """As where a database is shared: its administrator makes the schema and the user."""
    admin = await connect_admin(servers)
    await admin.execute("CREATE ROLE tenant LOGIN PASSWORD 'tenant'")
    await admin.execute("CREATE DATABASE shared")
    shared = await connect_admin(servers, "shared")
    await shared.execute("CREATE SCHEMA aftercommit AUTHORIZATION tenant")
    await shared.execute("CREATE TABLE public.tasks (id int)")
    try:
        await alembic(
            service.settings.model_copy(
                update={"postgres_db": "shared", "postgres_user": "tenant", "postgres_password": "tenant"}
            ),
            *("upgrade", "head"),
        )
        assert await shared.fetchval("SELECT version_num FROM aftercommit.alembic_version") == HEAD
    finally:
        await shared.close()
        await admin.execute("DROP DATABASE shared WITH (FORCE)")
        await admin.execute("DROP ROLE tenant")
        await admin.close()


async def test_view_for_the_release_before_takes_its_statements_and_hides_rows_that_it_cannot_read(
    service: Service,
) -> None:
    for _ in range(3):
        await service.query(
            "INSERT INTO aftercommit.outbox (work_queue, task_id, dispatch) VALUES ('a.high', gen_random_uuid(), 1)"
        )
    await service.query(
        "INSERT INTO aftercommit.outbox_rows (work_queue, task_ids, dispatches)"
        " VALUES ('a.high', ARRAY[gen_random_uuid()], '{1}')"
    )
    (first, *others) = await service.query("SELECT id FROM aftercommit.outbox ORDER BY id FOR UPDATE SKIP LOCKED")
    assert len(others) == 2
    (moved,) = await service.query(
        "UPDATE aftercommit.outbox SET id = DEFAULT WHERE id = :id RETURNING id", id=first.id
    )
    assert moved.id > others[-1].id + 1
    await service.query("DELETE FROM aftercommit.outbox WHERE id = :id", id=moved.id)
    await service.query("UPDATE aftercommit.outbox SET attempts = 1, failed_at = now()")
    rows = await service.query("SELECT destination, failed_at IS NULL FROM aftercommit.outbox_rows ORDER BY id")
    assert [tuple(row) for row in rows] == [("a.high", False), ("a.high", False), ("a.high", True)]
