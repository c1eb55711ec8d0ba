"""``context.transaction()``: the handler's writes and the task's completion in one commit."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Final

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from aftercommit import Fail
from aftercommit.core.outcomes import Outcome
from aftercommit.core.settings import Settings
from aftercommit.db import record
from aftercommit.db.engine import create_engine, is_exhausted, is_outage, within
from aftercommit.db.outages import is_timeout
from aftercommit.worker.attempt import Attempt
from aftercommit.worker.places import Places
from aftercommit.worker.start_times import StartTimes

_REFUSAL: Final = (
    "session.{}() is not for handlers: the worker commits the session of context.transaction() together with the"
    " task's completion, when the handler returns. Use session.flush() to send what is pending, and"
    " session.begin_nested() for a part that may be rolled back."
)
_BROKEN: Final = (
    "the handler ended the transaction of context.transaction() itself: what it wrote before is committed or rolled"
    " back apart from the task's completion. Leave COMMIT and ROLLBACK to the worker, and use session.begin_nested()"
    " for a part that may be rolled back."
)


class HandlerTransactions:
    """The connections that handlers' transactions run on: WORKER_TRANSACTION_POOL at most."""

    def __init__(self, settings: Settings, *, application: str, size: int, start_times: StartTimes) -> None:
        seconds = settings.worker_transaction_statement_seconds
        self.engine = create_engine(settings, application=application, size=size, seconds=seconds)
        self.places = Places(size, kind="transaction", start_times=start_times)

    def of(self, attempt: Attempt) -> "HandlerTransaction":
        return HandlerTransaction(self.engine, self.places, attempt)

    async def close(self) -> None:
        await self.engine.dispose()


class HandlerTransaction:
    """At most one per attempt. It stays open until the handler has returned, since the result belongs to it."""

    __slots__ = ("_attempt", "_begun", "_engine", "_places", "_session", "_stack", "outage", "ready")

    def __init__(self, engine: AsyncEngine, places: Places, attempt: Attempt) -> None:
        self._engine = engine
        self._places = places
        self._attempt = attempt
        self._stack: AsyncExitStack | None = None
        self._session: AsyncSession | None = None
        self._begun: SessionTransaction | None = None
        self.ready = False
        self.outage: BaseException | None = None
        """The error, when it was raised because Postgres went away, has no room left, or had the task's row locked."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncSession]:
        if self._session is not None:
            raise RuntimeError("context.transaction() can be used once per attempt")
        self._session = AsyncSession(self._engine, sync_session_class=_HandlerSession, expire_on_commit=False)
        self._stack = AsyncExitStack()
        await self._stack.enter_async_context(self._places.hold(self._attempt))
        try:
            connection = await self._session.connection()
            # The driver begins a transaction with its first statement. A handler may send none before it returns.
            await connection.exec_driver_sql("SELECT")
        except Exception as error:
            if is_outage(error):
                self.outage = error
            raise
        self._begun = self._session.sync_session.get_transaction()
        with self._watched():
            yield self._session
        self.ready = True

    async def commit(self, outcome: Outcome) -> bool:
        """Record ``outcome`` and commit everything; False, and nothing kept, when the task was given away meanwhile or
        is to be cancelled.

        Raises what the database raises. Whether the commit took effect is then settled by the fence: the failure
        that the caller records next is refused if it did. Raises Fail when the handler ended the transaction itself.
        """
        assert self._session is not None
        await self._check_unbroken(self._session)
        with self._watched(), _worker_ends(self._session):
            if not await self._record(self._session, outcome):
                await self._session.rollback()
                return False
            await self._session.commit()
            return True

    async def close(self) -> None:
        """Undo whatever was not committed."""
        if self._session is None or self._stack is None:
            return
        try:
            with _worker_ends(self._session):
                await self._session.close()
        finally:
            await self._stack.aclose()

    async def _record(self, session: AsyncSession, outcome: Outcome) -> bool:
        """Waits for a row that somebody else holds locked: only this transaction waits, on its own connection."""
        try:
            fetch = within(await session.connection())
            return await record.record_own(fetch, outcome)
        except DBAPIError as error:
            if error.orig is not None and is_timeout(error.orig):
                self.outage = error
            raise

    async def _check_unbroken(self, session: AsyncSession) -> None:
        if not session.is_active:
            return  # a flush failed and rolled back: the commit says so
        if session.sync_session.get_transaction() is self._begun:
            raw = await (await session.connection()).get_raw_connection()
            driver: Any = raw.driver_connection
            # A connection that broke is in no transaction either: its own error says more.
            if driver.is_closed() or driver.is_in_transaction():
                return
        raise Fail(_BROKEN)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            # A deadlock or a cancelled statement is the handler's own affair.
            if error.connection_invalidated or is_exhausted(error):
                self.outage = error
            raise


class _HandlerSession(Session):
    """Refuses what would end the transaction before the worker does."""

    worker_ends = False

    def _check(self, name: str) -> None:
        if not self.worker_ends:
            raise RuntimeError(_REFUSAL.format(name))

    def commit(self) -> None:
        self._check("commit")
        super().commit()

    def rollback(self) -> None:
        self._check("rollback")
        super().rollback()

    def prepare(self) -> None:
        self._check("prepare")
        super().prepare()

    def close(self) -> None:
        self._check("close")
        super().close()

    def reset(self) -> None:
        self._check("reset")
        super().reset()

    def invalidate(self) -> None:
        self._check("invalidate")
        super().invalidate()

    def begin(self, nested: bool = False) -> SessionTransaction:
        if not nested:
            self._check("begin")
        return super().begin(nested)


@contextmanager
def _worker_ends(session: AsyncSession) -> Iterator[None]:
    inner = session.sync_session
    assert isinstance(inner, _HandlerSession)
    inner.worker_ends = True
    try:
        yield
    finally:
        inner.worker_ends = False
