"""``python -m tests.faults.caller <driver> <dsn> <seed>``: a caller that submits in transactions of its own until it is
killed. Each inserts a row that names its task; half of them roll back. What errors is tried anew, on a new connection.
"""

import asyncio
import json
import os
import random
import sys
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg
import psycopg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from aftercommit import sql
from aftercommit.devstack.binaries import postgres_binaries
from tests.faults.kinds import Kind

BEGUN_LINE: Final = "caller {} begins"
"""What a process of this number prints before its first transaction."""

TRY_AGAIN_SECONDS: Final = 0.2
PSQL_AT_ONCE: Final = 20
"""Transactions that psql is sent before it is waited for."""

ISOLATION_LEVELS: Final = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")

FINISH_PREPARED: Final = """
    SELECT format('%s PREPARED %L', CASE WHEN random() < 0.5 THEN 'COMMIT' ELSE 'ROLLBACK' END, gid) AS statement
    FROM pg_prepared_xacts WHERE database = current_database()
"""
"""Statements that end what callers left prepared when they were killed."""

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


@dataclass(frozen=True, slots=True)
class Intent:
    """What one transaction is to be. With ``savepoint`` it also submits a task that a savepoint undoes."""

    driver: str
    commits: bool
    isolation: str
    savepoint: bool
    options: sql.TaskOptions

    @property
    def isolating(self) -> str:
        return f"SET TRANSACTION ISOLATION LEVEL {self.isolation}"

    @property
    def counting(self) -> str:
        """Counts a transaction that rolls back, from within: a sequence does not roll back with it."""
        return f"SELECT nextval('rolled_back.{self.driver}')"

    def inserting(self, task: object) -> str:
        return f"INSERT INTO fault_callers SELECT {task}, '{self.driver}'"


def intend(driver: str, rng: random.Random) -> Intent:
    options: sql.TaskOptions = {"priority": rng.choice(("high", "medium", "low"))}
    if rng.random() < 0.1:
        options["delay_seconds"] = rng.uniform(0.1, 2)
    return Intent(
        driver=driver,
        commits=rng.random() < 0.5,
        isolation=rng.choice(ISOLATION_LEVELS),
        savepoint=rng.random() < 0.2,
        options=options,
    )


async def write(connection: Any, execute: Callable[[str], Awaitable[Any]], intent: Intent) -> None:
    """All of a transaction but its beginning and its end."""
    await execute(intent.isolating)
    if intent.savepoint:
        await execute("SAVEPOINT before")
        await sql.submit(connection, Kind.QUICK, {}, **intent.options)
        await execute("ROLLBACK TO before")
    task_id = await sql.submit(connection, Kind.QUICK, {}, **intent.options)
    await execute(intent.inserting(f"'{task_id}'::uuid"))
    if not intent.commits:
        await execute(intent.counting)


async def with_asyncpg(dsn: str, rng: random.Random) -> None:
    connection = await asyncpg.connect(dsn, timeout=10, command_timeout=30)
    try:
        while True:
            intent = intend("asyncpg", rng)
            transaction = connection.transaction()
            await transaction.start()
            await write(connection, connection.execute, intent)
            await (transaction.commit() if intent.commits else transaction.rollback())
    finally:
        connection.terminate()


async def with_psycopg(dsn: str, rng: random.Random) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, connect_timeout=10, autocommit=True) as connection:
        while True:
            intent = intend("psycopg", rng)
            async with connection.transaction(force_rollback=not intent.commits):
                await write(connection, lambda statement: connection.execute(statement.encode()), intent)


async def with_sqlalchemy(dsn: str, rng: random.Random) -> None:
    engine = create_async_engine(dsn.replace("postgresql://", "postgresql+asyncpg://"), poolclass=NullPool)
    try:
        # One connection for all transactions: a pool would open one for each.
        async with engine.connect() as connection, AsyncSession(connection) as session:
            while True:
                intent = intend("sqlalchemy", rng)
                await write(session, lambda statement: session.execute(text(statement)), intent)
                await (session.commit() if intent.commits else session.rollback())
    finally:
        await engine.dispose()


async def with_psql(dsn: str, rng: random.Random) -> None:
    """Scripts of psql; some of their transactions are prepared first."""
    options = ("-X", "-q", "-o", os.devnull, "-v", "ON_ERROR_STOP=1", "-f", "-")
    psql = await asyncio.create_subprocess_exec(postgres_binaries()["psql"], *options, dsn, stdin=PIPE, stdout=PIPE)
    assert psql.stdin is not None
    assert psql.stdout is not None
    psql.stdin.write(f"{FINISH_PREPARED} \\gexec\n".encode())
    while True:
        for _ in range(PSQL_AT_ONCE):
            psql.stdin.write(script(intend("psql", rng), prepared=f"{rng.getrandbits(64):x}").encode())
        psql.stdin.write(b"\\echo done\n")
        await psql.stdin.drain()
        if not await psql.stdout.readline():
            raise ConnectionError(f"psql ended with {await psql.wait()}")


def script(intent: Intent, *, prepared: str) -> str:
    arguments = "".join(f", {name} => {json.dumps(value)}".replace('"', "'") for name, value in intent.options.items())
    submitting = f"aftercommit.submit_task('{Kind.QUICK}'{arguments})"
    statements = ["BEGIN", intent.isolating]
    if intent.savepoint:
        statements += ["SAVEPOINT before", f"SELECT {submitting}", "ROLLBACK TO before"]
    statements.append(intent.inserting(submitting))
    if not intent.commits:
        statements.append(intent.counting)
    end = "COMMIT" if intent.commits else "ROLLBACK"
    # As often as savepoints, and independent of them.
    if int(prepared, 16) % 5 == 0:
        statements += [f"PREPARE TRANSACTION '{prepared}'", f"{end} PREPARED '{prepared}'"]
    else:
        statements.append(end)
    return ";\n".join([*statements, ""])


DRIVERS: Final[dict[str, Callable[[str, random.Random], Awaitable[Any]]]] = {
    "psycopg": with_psycopg,
    "asyncpg": with_asyncpg,
    "sqlalchemy": with_sqlalchemy,
    "psql": with_psql,
}

TABLES: Final = f"""
    CREATE TABLE fault_callers (task_id uuid PRIMARY KEY, driver text NOT NULL);
    CREATE SCHEMA rolled_back;
    {"".join(f"CREATE SEQUENCE rolled_back.{driver};" for driver in DRIVERS)}
"""


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
