"""The task types of the load. Each writes its effect first; then it ends as its kind does."""

import asyncio
import os
import select
from functools import cache
from typing import Final

import asyncpg
from sqlalchemy import text

from aftercommit import Context, Fail, Retry, Snooze, task
from tests.faults.effects import DSN_NAME, Effects
from tests.faults.kinds import HAS_TRANSACTIONS, Kind

ISOLATED_TIMEOUT_SECONDS: Final = 4.0

_COUNT: Final = "SELECT pg_advisory_lock($1, $2)"
_COMPLETE: Final = text("INSERT INTO fault_transactional (task_id, attempt) VALUES (:task_id, :attempt)")


@cache
def effects() -> Effects:
    """Of this process; opened by the first effect, since importing must not do work."""
    return Effects()


@task(Kind.QUICK)
async def quick(context: Context) -> None:
    await _write(context)


@task(Kind.SLEEP)
async def sleep(seconds: float, context: Context) -> None:
    await _write(context)
    await asyncio.sleep(seconds)


@task(Kind.SYNC)
def sync(context: Context) -> None:
    effects().write_blocking(context.task_id, context.attempt, context.type)
    # time.sleep() fails under a skewed clock: libfaketime does not pass its clock through.
    select.select([], [], [], 0.005)


@task(Kind.ISOLATED, isolated=True, timeout_seconds=ISOLATED_TIMEOUT_SECONDS)
async def isolated(seconds: float, context: Context) -> None:
    await _write(context)
    await asyncio.sleep(seconds)


@task(Kind.FLAKY)
async def flaky(failures: int, context: Context, after: float | None = None) -> None:
    """Fails in its first ``failures`` attempts."""
    await _write(context)
    if context.attempt <= failures:
        raise Retry("not yet", after=after)


@task(Kind.COUNTED)
async def counted(seconds: float, context: Context) -> None:
    """Holds a lock while it runs, which says in which process; it is lost with that."""
    await _write(context)
    connection = await asyncpg.connect(os.environ[DSN_NAME])
    try:
        await connection.fetchval(_COUNT, os.getpid(), context.task_id.int % 2**31)
        await asyncio.sleep(seconds)
    finally:
        connection.terminate()


@task(Kind.SNOOZING)
async def snoozing(context: Context) -> None:
    await _write(context)
    if context.attempt == 1:
        raise Snooze(0.3)


@task(Kind.BROKEN)
async def broken(context: Context) -> None:
    await _write(context)
    raise RuntimeError("it always does that")


@task(Kind.HOPELESS)
async def hopeless(context: Context) -> None:
    await _write(context)
    raise Fail("this will never work")


if HAS_TRANSACTIONS:

    @task(Kind.TRANSACTIONAL)
    async def transactional(context: Context) -> None:
        await _write(context)
        await _write_with_completion(context)

    @task(Kind.DEADLINE)
    async def deadline(seconds: float, context: Context) -> None:
        await _write(context)
        await asyncio.sleep(seconds)
        await _write_with_completion(context)


async def _write_with_completion(context: Context) -> None:
    async with context.transaction() as session:
        await session.execute(_COMPLETE, {"task_id": context.task_id, "attempt": context.attempt})


async def _write(context: Context) -> None:
    await effects().write(context.task_id, context.attempt, context.type)
