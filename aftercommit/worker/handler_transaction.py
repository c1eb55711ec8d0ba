"""``context.transaction()``: the handler's writes and the task's completion in one commit."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from aftercommit.core.outcomes import Outcome
from aftercommit.db import record
from aftercommit.db.engine import is_exhausted, is_outage, within


class HandlerTransaction:
    """At most one per attempt. It stays open until the handler has returned, since the result belongs to it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._session: AsyncSession | None = None
        self.ready = False
        self.outage: BaseException | None = None
        """The error, when it was raised because Postgres went away, or has no room left."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncSession]:
        if self._session is not None:
            raise RuntimeError("context.transaction() can be used once per attempt")
        self._session = AsyncSession(self._engine, expire_on_commit=False)
        try:
            await self._session.connection()
        except Exception as error:
            if is_outage(error):
                self.outage = error
            raise
        with self._watched():
            yield self._session
        self.ready = True

    async def commit(self, outcome: Outcome) -> bool:
        """Record ``outcome`` and commit everything; False, and nothing kept, when the task was given away meanwhile.

        Raises what the database raises. Whether the commit took effect is then settled by the fence: the failure
        that the caller records next is refused if it did.
        """
        assert self._session is not None
        with self._watched():
            if not await record.record(within(await self._session.connection()), [outcome]):
                await self._session.rollback()
                return False
            await self._session.commit()
            return True

    async def close(self) -> None:
        """Undo whatever was not committed."""
        if self._session is not None:
            await self._session.close()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            # A deadlock or a cancelled statement is the handler's own affair.
            if error.connection_invalidated or is_exhausted(error):
                self.outage = error
            raise
