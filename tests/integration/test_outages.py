"""What Postgres's errors mean: each cause reads differently, in words that hold no secret."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from aftercommit.core.errors import AftercommitError, DatabaseTimeout, DatabaseUnavailable
from aftercommit.core.settings import Settings
from aftercommit.db import database
from aftercommit.db.database import DatabaseConnection
from aftercommit.devstack.ports import free_port
from tests.integration.service import Service
from tests.integration.tcp_proxy import TcpProxy

SECRET = "hunter2-secret"


@pytest.fixture
async def connection(service: Service) -> AsyncIterator[DatabaseConnection]:
    async with DatabaseConnection(service.settings, application="test") as opened:
        yield opened


async def fault(settings: Settings, statement: str = "SELECT 1", *, before: str = "") -> AftercommitError:
    """The error of a statement on a new connection."""
    async with DatabaseConnection(settings, application="test") as connection:
        if before:
            await connection.fetch(before)
        with pytest.raises(AftercommitError) as caught:
            await connection.fetch(statement)
    assert SECRET not in caught.value.detail
    return caught.value


async def test_wrong_password_is_told(settings: Settings) -> None:
    error = await fault(settings.model_copy(update={"postgres_password": SECRET}))
    assert isinstance(error, DatabaseUnavailable)
    assert "refuses the login" in error.detail
    assert getattr(error.__cause__, "sqlstate", None) == "28P01"


async def test_unknown_database_is_told(settings: Settings) -> None:
    error = await fault(settings.model_copy(update={"postgres_db": "nowhere"}))
    assert isinstance(error, DatabaseUnavailable)
    assert "no such database" in error.detail


async def test_too_many_connections_are_told(service: Service) -> None:
    role = f"limited_{uuid4().hex}"
    await service.query(f"CREATE ROLE {role} LOGIN PASSWORD '{SECRET}' CONNECTION LIMIT 0")
    try:
        error = await fault(service.settings.model_copy(update={"postgres_user": role, "postgres_password": SECRET}))
    finally:
        await service.query(f"DROP ROLE {role}")
    assert isinstance(error, DatabaseUnavailable)
    assert "no connection left" in error.detail


async def test_server_that_takes_no_writes_is_told(settings: Settings) -> None:
    error = await fault(
        settings,
        "INSERT INTO aftercommit.workers (name, handlers, lease_until) VALUES ('a', '{}', now())",
        before="SET default_transaction_read_only = on",
    )
    assert isinstance(error, DatabaseUnavailable)
    assert "takes no writes" in error.detail


@pytest.mark.parametrize(
    ("sqlstate", "told"),
    [("53100", "no disk space"), ("53200", "out of memory"), ("57P03", "is starting"), ("57P01", "is stopping")],
)
async def test_other_outages_are_told(settings: Settings, sqlstate: str, told: str) -> None:
    error = await fault(settings, f"DO $$ BEGIN RAISE EXCEPTION '{SECRET}' USING ERRCODE = '{sqlstate}'; END $$")
    assert isinstance(error, DatabaseUnavailable)
    assert told in error.detail


async def test_slow_statement_is_no_outage(settings: Settings) -> None:
    error = await fault(settings, "SELECT pg_sleep(10)", before="SET statement_timeout = '50ms'")
    assert isinstance(error, DatabaseTimeout)
    assert "did not finish the statement in time" in error.detail


async def test_wait_for_a_lock_is_no_outage(service: Service, connection: DatabaseConnection) -> None:
    async with connection.transaction() as fetch:
        await fetch("LOCK TABLE aftercommit.workers")
        error = await fault(service.settings, "SELECT FROM aftercommit.workers", before="SET lock_timeout = '50ms'")
    assert isinstance(error, DatabaseTimeout)
    assert "waited too long for a lock" in error.detail


async def test_deadlock_is_told_to_the_one_that_is_rolled_back(service: Service) -> None:
    both_hold = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with (
            DatabaseConnection(service.settings, application="test") as connection,
            connection.transaction() as fetch,
        ):
            await fetch("SELECT pg_advisory_xact_lock($1)", first)
            await both_hold.wait()
            await fetch("SELECT pg_advisory_xact_lock($1)", second)

    ends = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    [error] = [end for end in ends if end is not None]
    assert isinstance(error, DatabaseUnavailable)
    assert "deadlock" in error.detail


async def test_server_that_cannot_be_reached_is_told(settings: Settings) -> None:
    error = await fault(settings.model_copy(update={"postgres_port": free_port()}))
    assert isinstance(error, DatabaseUnavailable)
    assert "cannot be reached" in error.detail


async def test_server_that_says_nothing_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CONNECT_SECONDS", 0.3)
    proxy = TcpProxy(settings.postgres_host, settings.postgres_port)
    await proxy.start()
    proxy.silence()
    error = await fault(settings.model_copy(update={"postgres_host": "127.0.0.1", "postgres_port": proxy.port}))
    await proxy.stop()
    assert isinstance(error, DatabaseUnavailable)
    assert "does not answer" in error.detail


async def test_connection_that_broke_is_told(service: Service, connection: DatabaseConnection) -> None:
    [[pid]] = await connection.fetch("SELECT pg_backend_pid()")
    slow = asyncio.create_task(connection.fetch("SELECT pg_sleep(60)"))
    await service.until(f"SELECT state = 'active' FROM pg_stat_activity WHERE pid = {pid}")
    await service.query("SELECT pg_terminate_backend(:pid)", pid=pid)
    with pytest.raises(DatabaseUnavailable, match=r"ended the connection|connection to Postgres broke"):
        await slow
