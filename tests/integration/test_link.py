"""A link outlives its connection, commits all or nothing, and tells an outage from a value that cannot be stored."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest

from aftercommit.core.errors import BrokerUnavailable, DatabaseUnavailable
from aftercommit.core.settings import Settings
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.outages import StatementRefused
from tests.integration.service import Service

BACKEND = "SELECT pg_backend_pid()"
ADD = "INSERT INTO aftercommit.workers (name, handlers, lease_until) VALUES ($1, '{}', now())"


@pytest.fixture
async def link(service: Service) -> AsyncIterator[DatabaseConnection]:
    async with DatabaseConnection(service.settings, application="test") as opened:
        yield opened


async def names(service: Service) -> list[str]:
    return [row[0] for row in await service.query("SELECT name FROM aftercommit.workers ORDER BY name")]


@pytest.mark.parametrize("change", [{"postgres_port": 1}, {"postgres_password": "wrong"}, {"postgres_db": "nowhere"}])
async def test_database_that_lets_nobody_in_is_unavailable(settings: Settings, change: dict[str, object]) -> None:
    async with DatabaseConnection(settings.model_copy(update=change), application="test") as link:
        with pytest.raises(DatabaseUnavailable):
            await link.fetch(BACKEND)
        with pytest.raises(DatabaseUnavailable):
            async with link.transaction():
                pass


@pytest.mark.parametrize("value", ["\ud800", "a\x00b", 7])
async def test_value_that_cannot_be_stored_is_refused_and_costs_no_connection(
    link: DatabaseConnection, value: object
) -> None:
    before = await link.fetch(BACKEND)
    with pytest.raises(StatementRefused):
        await link.fetch("SELECT $1::text", value)
    assert await link.fetch(BACKEND) == before


async def test_other_errors_are_about_no_value(link: DatabaseConnection) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await link.fetch("SELECT * FROM nothing")


async def test_server_that_takes_no_writes_is_unavailable_and_left(service: Service, link: DatabaseConnection) -> None:
    await link.fetch("SET default_transaction_read_only = on")
    with pytest.raises(DatabaseUnavailable):
        await link.fetch(ADD, "a")
    await link.fetch(ADD, "b")
    assert await names(service) == ["b"]


async def test_connection_that_was_ended_is_replaced(service: Service, link: DatabaseConnection) -> None:
    [[pid]] = await link.fetch(BACKEND)
    await service.query("SELECT pg_terminate_backend(:pid)", pid=pid)
    with suppress(DatabaseUnavailable):  # where the statement was on its way before we heard of it
        await link.fetch(BACKEND)
    assert await link.fetch(BACKEND) != [(pid,)]


async def test_transaction_is_committed_as_a_whole(service: Service, link: DatabaseConnection) -> None:
    async with link.transaction() as fetch:
        await fetch(ADD, "a")
        assert await names(service) == []
        await fetch(ADD, "b")
    assert await names(service) == ["a", "b"]


@pytest.mark.parametrize("error", [BrokerUnavailable("away"), asyncio.CancelledError(), KeyError("a bug")])
async def test_transaction_that_ends_with_an_error_leaves_nothing(
    service: Service, link: DatabaseConnection, error: BaseException
) -> None:
    async def break_off() -> None:
        async with link.transaction() as fetch:
            await fetch(ADD, "a")
            raise error

    with pytest.raises(type(error)):
        await break_off()
    async with link.transaction() as fetch:
        await fetch(ADD, "b")
    assert await names(service) == ["b"]


async def test_statement_that_was_cancelled_is_not_waited_for(link: DatabaseConnection) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await link.fetch("SELECT pg_sleep(60)")
    async with asyncio.timeout(5):
        assert await link.fetch("SELECT 1") == [(1,)]
