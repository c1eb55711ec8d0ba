"""``context.transaction()``: the handler's writes and the task's completion in one commit."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from app.db import outcomes
from app.outcomes import Outcome


class TaskTransaction:
    """At most one per attempt. It stays open until the handler has returned, since the result belongs to it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._session: AsyncSession | None = None
        self.ready = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncSession]:
        if self._session is not None:
            raise RuntimeError("context.transaction() can be used once per attempt")
        self._session = AsyncSession(self._engine, expire_on_commit=False)
        yield self._session
        self.ready = True

    async def commit(self, outcome: Outcome) -> bool:
        """Record ``outcome`` and commit everything; False, and nothing kept, when the task was given away meanwhile.

        Raises what the database raises. Whether the commit took effect is then settled by the fence: the failure
        that the caller records next is refused if it did.
        """
        assert self._session is not None
        if not await outcomes.record(await self._session.connection(), [outcome]):
            await self._session.rollback()
            return False
        await self._session.commit()
        return True

    async def close(self) -> None:
        """Undo whatever was not committed."""
        if self._session is not None:
            await self._session.close()
