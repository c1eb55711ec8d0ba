"""``python -m tests.faults.caller <driver> <dsn> <seed>``: a caller that submits in transactions of its own until it is
killed. Each inserts a row that names its task; half of them roll back. What errors is tried anew, on a new connection.
"""

import asyncio
import json
import os
import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

import asyncpg
import psycopg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from aftercommit import sql
from tests.faults.kinds import Kind

TABLES: Final = """
    CREATE TABLE fault_callers (task_id uuid PRIMARY KEY, driver text NOT NULL);
    -- Not part of any transaction: what was begun, whatever became of it.
    CREATE SEQUENCE fault_begun;
    CREATE SEQUENCE fault_rolled_back;
"""
BEGUN: Final = "SELECT nextval('fault_begun')"
ROLLED_BACK: Final = "SELECT nextval('fault_rolled_back')"
BEGUN_LINE: Final = "caller {} begins"
"""What a process of this number prints before its first transaction."""

TRY_AGAIN_SECONDS: Final = 0.2
PAUSE_SECONDS: Final = 0.02
"""Between two transactions of one caller."""

# A server that is killed in the middle of an answer is an InternalClientError to asyncpg.
OUTAGES: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    psycopg.Error,
    DBAPIError,
)


def options(rng: random.Random) -> sql.TaskOptions:
    found: sql.TaskOptions = {"priority": rng.choice(("high", "medium", "low"))}
    if rng.random() < 0.1:
        found["delay_seconds"] = rng.uniform(0.1, 2)
    return found


async def with_asyncpg(dsn: str, rng: random.Random) -> None:
    connection = await asyncpg.connect(dsn, timeout=10, command_timeout=30)
    try:
        while True:
            await connection.execute(BEGUN)
            transaction = connection.transaction()
            await transaction.start()
            task_id = await sql.submit(connection, Kind.QUICK, {}, **options(rng))
            await connection.execute("INSERT INTO fault_callers VALUES ($1, 'asyncpg')", task_id)
            if rng.random() < 0.5:
                await transaction.commit()
            else:
                await transaction.rollback()
                await connection.execute(ROLLED_BACK)
            await asyncio.sleep(PAUSE_SECONDS)
    finally:
        connection.terminate()


async def with_psycopg(dsn: str, rng: random.Random) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, connect_timeout=10, autocommit=True) as connection:
        while True:
            await connection.execute(BEGUN)
            rolls_back = rng.random() < 0.5
            async with connection.transaction(force_rollback=rolls_back):
                task_id = await sql.submit(connection, Kind.QUICK, {}, **options(rng))
                await connection.execute("INSERT INTO fault_callers VALUES (%s, 'psycopg')", [task_id])
            if rolls_back:
                await connection.execute(ROLLED_BACK)
            await asyncio.sleep(PAUSE_SECONDS)


async def with_sqlalchemy(dsn: str, rng: random.Random) -> None:
    engine = create_async_engine(dsn.replace("postgresql://", "postgresql+asyncpg://"), poolclass=NullPool)
    try:
        async with AsyncSession(engine) as session:
            while True:
                await session.execute(text(BEGUN))
                await session.commit()
                task_id = await sql.submit(session, Kind.QUICK, {}, **options(rng))
                await session.execute(text("INSERT INTO fault_callers VALUES (:id, 'sqlalchemy')"), {"id": task_id})
                if rng.random() < 0.5:
                    await session.commit()
                else:
                    await session.rollback()
                    await session.execute(text(ROLLED_BACK))
                    await session.commit()
                await asyncio.sleep(PAUSE_SECONDS)
    finally:
        await engine.dispose()


async def with_plain_sql(dsn: str, rng: random.Random) -> None:
    """One text for each transaction, as psql sends a script."""
    connection = await asyncpg.connect(dsn, timeout=10, command_timeout=30)
    try:
        while True:
            commits = rng.random() < 0.5
            given = options(rng)
            arguments = "".join(f", {name} => {json.dumps(value)}".replace('"', "'") for name, value in given.items())
            await connection.execute(
                f"{BEGUN}; BEGIN; INSERT INTO fault_callers"
                f" SELECT aftercommit.submit_task('{Kind.QUICK}'{arguments}), 'plain SQL';"
                + ("COMMIT" if commits else f"ROLLBACK; {ROLLED_BACK}")
            )
            await asyncio.sleep(PAUSE_SECONDS)
    finally:
        connection.terminate()


DRIVERS: Final[dict[str, Callable[[str, random.Random], Awaitable[Any]]]] = {
    "psycopg": with_psycopg,
    "asyncpg": with_asyncpg,
    "sqlalchemy": with_sqlalchemy,
    "plain SQL": with_plain_sql,
}


async def main(driver: str, dsn: str, seed: str) -> None:
    rng = random.Random(seed)
    print(BEGUN_LINE.format(os.getpid()), flush=True)
    while True:
        try:
            await DRIVERS[driver](dsn, rng)
        except OUTAGES as error:
            print(f"{driver}: {type(error).__name__}: {error}", flush=True)
        await asyncio.sleep(TRY_AGAIN_SECONDS)


def committed_ids(rows: list[asyncpg.Record]) -> dict[UUID, Kind]:
    """What the account is told of: each of these rows stands for one task."""
    return {row["task_id"]: Kind.QUICK for row in rows}


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
