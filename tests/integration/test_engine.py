"""What counts as an outage of Postgres."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.config import Settings
from app.db.engine import create_engine, single_statement
from app.errors import DatabaseUnavailable
from tests.integration.service import Service

ADD = "INSERT INTO workers (name, handlers, lease_until) VALUES ('a', '{}', now())"


@pytest.mark.parametrize("change", [{"postgres_port": 1}, {"postgres_password": "wrong"}, {"postgres_db": "nowhere"}])
async def test_database_that_lets_nobody_in_is_unavailable(settings: Settings, change: dict[str, object]) -> None:
    engine = create_engine(settings.model_copy(update=change), application="test")
    try:
        with pytest.raises(DatabaseUnavailable):
            async with single_statement(engine) as connection:
                await connection.execute(text("SELECT 1"))
    finally:
        await engine.dispose()


async def test_server_that_takes_no_writes_is_unavailable_and_left(service: Service) -> None:
    async with single_statement(service.engine) as connection:
        await connection.execute(text("SET default_transaction_read_only = on"))
    with pytest.raises(DatabaseUnavailable):
        await service.query(ADD)
    await service.query(ADD)


@pytest.mark.parametrize("value", ["\ud800", "a\x00b"])
async def test_value_that_cannot_be_stored_is_no_outage(settings: Settings, value: str) -> None:
    engine = create_engine(settings, application="test")
    try:
        with pytest.raises(DBAPIError):
            async with single_statement(engine) as connection:
                await connection.execute(text("SELECT CAST(:value AS text)"), {"value": value})
    finally:
        await engine.dispose()
