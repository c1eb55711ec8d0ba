"""The migrations against the models, up and down."""

import asyncio
import os
import subprocess
import sys

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from aftercommit.core.settings import Settings
from aftercommit.db.models import SCHEMA, metadata
from tests.integration.conftest import ROOT
from tests.integration.service import Service


async def alembic(settings: Settings, *words: str) -> None:
    environment = {
        **os.environ,
        "POSTGRES_HOST": settings.postgres_host,
        "POSTGRES_PORT": str(settings.postgres_port),
        "POSTGRES_USER": settings.postgres_user,
        "POSTGRES_PASSWORD": settings.postgres_password,
        "POSTGRES_DB": settings.postgres_db,
    }
    command = [sys.executable, "-m", "alembic", *words]
    await asyncio.to_thread(subprocess.run, command, cwd=ROOT, env=environment, check=True, timeout=60)


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
