"""Runs the migrations on the database of the settings, one runner at a time."""

import asyncio
import sys
from typing import Final

import tenacity
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from aftercommit.core.settings import load_settings
from aftercommit.db.engine import database_url
from aftercommit.db.models import SCHEMA, metadata
from aftercommit.db.outages import sqlstate
from alembic import context

LOCK_TIMEOUT: Final = "5s"
"""A migration that cannot have its lock soon gives up: queueing for it would block every statement behind it."""

RUNNERS_TIMEOUT: Final = "10min"
"""How long a runner waits for the one before it; `alembic -x runners_timeout=30s` says otherwise."""

CONNECT_SECONDS: Final = 10
START_SECONDS: Final = 30
"""How long a runner waits for a server that starts: a deploy may start both together."""

STARTING: Final = "57P03"
"""The SQLSTATE of a server that takes no connections yet."""

RUNNERS_LOCK: Final = 7_236_001

# Up to 0003 everything stood in `public`, where an application may have a version table of its own: `tasks.rung` tells
# that this one is ours. The tables follow in 0004.
_TAKE_OVER: Final = f"""
    DO $$ BEGIN
        IF to_regclass('{SCHEMA}.alembic_version') IS NULL AND EXISTS (
            SELECT FROM pg_attribute WHERE attrelid = to_regclass('public.tasks') AND attname = 'rung'
        ) THEN
            ALTER TABLE public.alembic_version SET SCHEMA {SCHEMA};
        END IF;
    END $$
"""


def migrate(connection: Connection) -> None:
    runners_timeout = context.get_x_argument(as_dictionary=True).get("runners_timeout", RUNNERS_TIMEOUT)
    connection.execute(text("SELECT set_config('lock_timeout', :value, false)"), {"value": runners_timeout})
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": RUNNERS_LOCK})
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    # Even IF NOT EXISTS asks for the right to create one, which an administrator who made it need not give.
    if connection.scalar(text("SELECT to_regnamespace(:name) IS NULL"), {"name": SCHEMA}):
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
    connection.execute(text(_TAKE_OVER))
    connection.execute(text(f"SET search_path = {SCHEMA}, public"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=True,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=lambda name, kind, _: kind != "schema" or name == SCHEMA,
    )
    with context.begin_transaction():
        context.run_migrations()


def _is_not_up(error: BaseException) -> bool:
    """Whether nobody listens yet, or the server still starts. Waiting does not help a wrong password, nor silence."""
    if isinstance(error, OSError):
        return not isinstance(error, TimeoutError)
    return STARTING in (sqlstate(error), sqlstate(getattr(error, "orig", None)))


def _tell(_: tenacity.RetryCallState) -> None:
    print("Postgres is not up yet; trying again.", file=sys.stderr, flush=True)


@tenacity.retry(
    retry=tenacity.retry_if_exception(_is_not_up),
    stop=tenacity.stop_after_delay(START_SECONDS),
    wait=tenacity.wait_random_exponential(multiplier=0.2, max=3),
    before_sleep=_tell,
    reraise=True,
)
async def main() -> None:
    engine = create_async_engine(
        database_url(load_settings()),
        poolclass=NullPool,
        # Of a user named like the schema it would be the default one, which Alembic does not name.
        connect_args={"timeout": CONNECT_SECONDS, "server_settings": {"search_path": "public"}},
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


asyncio.run(main())
