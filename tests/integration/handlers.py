"""Task types for the tests."""

import asyncio
import itertools
import os
import resource
import signal
import threading
import time
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aftercommit import Backoff, Context, Fail, Retry, Snooze, task


@task("test.sleep")
async def sleep(seconds: float = 0.0) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@task("test.block")
def block(seconds: float = 0.0) -> str:
    time.sleep(seconds)  # the point of it: it blocks its thread
    return "blocked"


@task("test.fail")
async def fail(reason: str = "no luck") -> None:
    raise RuntimeError(reason)


@task("test.fail_for_good")
async def fail_for_good() -> None:
    raise Fail("this will never work")


@task("test.fail_until")
async def fail_until(attempt: int, context: Context, after: float | None = None) -> int:
    """Fails until this attempt."""
    if context.attempt < attempt:
        raise Retry("not yet", after=after)
    return context.attempt


@task("test.backoff", max_retries=2, retry=Backoff(initial_seconds=0.4, factor=2, jitter=0))
async def back_off() -> None:
    raise RuntimeError("no luck")


@task("test.retry_on", retry_on=(ConnectionError,))
async def retry_on(kind: str) -> None:
    raise {"connection": ConnectionResetError, "value": ValueError}[kind]("as asked")


@task("test.snooze", max_retries=0)
async def snooze(context: Context, until: int, seconds: float = 1.0) -> int:
    """Snoozes before this attempt."""
    if context.attempt < until:
        raise Snooze(seconds, "not yet")
    return context.attempt


@task("test.isolated_snooze", max_retries=0, isolated=True)
def isolated_snooze(context: Context) -> int:
    if context.attempt < 2:
        raise Snooze(1, "not yet")
    return context.attempt


@task("test.progress")
async def progress(context: Context, seconds: float = 0.0) -> None:
    context.progress(0.25, "page 1 of 4")
    await asyncio.sleep(seconds)
    for step in range(1, 1_001):
        context.progress(step / 1_000, f"step {step}")
    if context.attempt < 2:
        raise Retry("again", after=0)


@task("test.thread_progress")
def thread_progress(context: Context, seconds: float = 0.0) -> None:
    context.progress(0.25, "page 1 of 4")
    time.sleep(seconds)  # the point of it: it blocks its thread
    context.progress(1)


@task("test.isolated_progress", isolated=True)
async def isolated_progress(context: Context, seconds: float = 0.0) -> None:
    """Never lets the event loop of its process go on."""
    context.progress(0.25, "page 1 of 4")
    time.sleep(seconds)  # the point of it: it blocks the loop
    for step in range(1, 1_001):
        context.progress(step / 1_000)


@task("test.isolated_exit", isolated=True, retry_on=(), fail_on=(Exception,))
def isolated_exit() -> None:
    os._exit(7)


@task("test.isolated_return", isolated=True)
def isolated_return(size: int) -> str:
    return "x" * size


@task("test.typed")
async def typed(customer: UUID, amount: int, note: str = "none") -> dict[str, Any]:
    return {"customer": str(customer), "amount": amount, "note": note}


@task("test.context")
def context(context: Context) -> dict[str, Any]:
    context.logger.warning("test_context_logged")
    return {
        "id": str(context.task_id),
        "attempt": context.attempt,
        "tags": list(context.tags),
        "deadline": context.deadline.isoformat(),
    }


@task("test.return")
async def give_back(kind: str) -> Any:
    return {"set": {1}, "nan": float("nan"), "surrogate": "\ud800", "large": "x" * 2_000_000, "nul": "a\x00b"}[kind]


@task("test.exit")
async def leave() -> None:
    raise SystemExit(3)


@task("test.quick", timeout_seconds=0.2, max_retries=0)
async def quick() -> None:
    await asyncio.sleep(60)


@task("test.once", max_retries=0)
async def once(seconds: float) -> None:
    await asyncio.sleep(seconds)


@task("test.stubborn")
async def stubborn(seconds: float) -> None:
    """Does not end when it is cancelled."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue


@task("test.hog")
async def hog(seconds: float) -> None:
    """Never yields."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1000))


@task("test.transactional")
async def transactional(context: Context, fail: bool, seconds: float = 0.0) -> str:
    async with context.transaction() as session:
        await session.execute(text("INSERT INTO effects VALUES (:id)"), {"id": context.task_id})
        await asyncio.sleep(seconds)
    if fail:
        raise RuntimeError("after the block, and still nothing is kept")
    return "done"


@task("test.sync_transaction")
def sync_transaction(context: Context) -> None:
    context.transaction()


@task("test.pid")
def pid() -> int:
    return os.getpid()


@task("test.kill")
async def kill() -> None:
    """As the kernel does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


@task("test.hoard")
async def hoard() -> None:
    """Takes all the memory that the process may have; the pages are never touched."""
    hoarded = []
    while True:
        hoarded.append(bytes(64 * 2**20))


@task("test.isolated_hoard", isolated=True)
async def isolated_hoard() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
    hoarded = []
    while True:
        hoarded.append(bytes(64 * 2**20))


@task("test.leak_threads")
async def leak_threads(most: int | None = None, stack_bytes: int = 0) -> None:
    """Leaves threads behind, so many or until no more can be started."""
    threading.stack_size(stack_bytes)
    for _ in range(most) if most is not None else itertools.count():
        threading.Thread(target=threading.Event().wait).start()


@task("test.isolated", isolated=True)
async def isolated(how: str, context: Context) -> int:
    match how:
        case "exit":
            os._exit(7)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise ValueError("as asked")
        case "hang":
            time.sleep(60)  # the point of it: nothing but a kill ends it
    async with context.transaction() as session:
        await session.execute(text("INSERT INTO effects VALUES (:id)"), {"id": context.task_id})
    return os.getpid()


@task("test.isolated_sleep", isolated=True)
def isolated_sleep(seconds: float) -> str:
    time.sleep(seconds)  # the point of it: only its process goes on
    return "slept"


@task("test.hold_transaction")
async def hold_transaction(seconds: float, context: Context) -> float:
    """Returns by how many seconds its deadline moved."""
    before = context.deadline
    async with context.transaction() as session:
        await session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
    return (context.deadline - before).total_seconds()


@task("test.end_transaction", max_retries=0)
async def end_transaction(how: str, context: Context) -> None:
    """Does what a handler must not do with its session."""
    async with context.transaction() as session:
        await session.execute(text("INSERT INTO effects VALUES (:id)"), {"id": context.task_id})
        match how:
            case "commit":
                await session.commit()
            case "rollback":
                await session.rollback()
            case "close":
                await session.close()
            case "with":
                async with session:
                    pass
            case "begin":
                async with session.begin():
                    pass
            case "sync":
                await session.run_sync(lambda inner: inner.commit())
            case "transaction":
                transaction = session.get_transaction()
                assert transaction is not None
                await transaction.commit()
            case "connection":
                await (await session.connection()).commit()
            case "statement":
                await session.execute(text("COMMIT"))


@task("test.savepoint")
async def savepoint(context: Context) -> str:
    """Writes once, and a second time in a part that is rolled back."""
    async with context.transaction() as session:
        await session.execute(text("INSERT INTO effects VALUES (:id)"), {"id": context.task_id})
        try:
            async with session.begin_nested():
                await session.execute(text("INSERT INTO effects VALUES (:id)"), {"id": context.task_id})
                raise LookupError  # noqa: TRY301  # a part that is rolled back
        except LookupError:
            await session.flush()
    return "done"


@task("test.clean_up")
async def clean_up(seconds: float) -> None:
    """Takes its time to clean up when it is cancelled."""
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(seconds)


class _Base(DeclarativeBase):
    pass


class Effect(_Base):
    __tablename__ = "effects"
    task_id: Mapped[UUID] = mapped_column(primary_key=True)


@task("test.late_transaction")
async def late_transaction(write: bool, context: Context) -> str:
    """Sends no statement itself: what it adds is flushed by the commit."""
    async with context.transaction() as session:
        if write:
            session.add(Effect(task_id=context.task_id))
    return "done"


@task("test.sleep_then_write")
async def sleep_then_write(seconds: float, context: Context) -> None:
    await asyncio.sleep(seconds)
    async with context.transaction() as session:
        await session.execute(text("INSERT INTO effects VALUES (:id)"), {"id": context.task_id})


@task("test.await_cancel")
def await_cancel(seconds: float, context: Context) -> str:
    """A thread that looks whether it is cancelled, and then needs so long to stop."""
    while not context.cancelled:
        time.sleep(0.01)  # between two looks: a thread can look, and not be called
    time.sleep(seconds)  # the point of it: it does not stop at once
    return "stopped"


@task("test.swallow")
async def swallow(seconds: float) -> str:
    """Goes on for so long after it was cancelled, as if nothing had happened."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(seconds)
    return "went on"
