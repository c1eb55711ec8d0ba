"""Group commit: what requests submit while a statement is under way goes into the next one together.

Each waits for the commit that holds its tasks. A lone request is written at once, alone.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aftercommit.db import submit
from aftercommit.db.database import Connect, DatabaseConnection
from aftercommit.db.outages import StatementRefused
from aftercommit.db.submit import Submission
from aftercommit.runtime.notifier import OutboxNotifier

STATEMENTS_AT_ONCE: Final = 2
CLOSE_SECONDS: Final = 2.0
MOST_TASKS: Final = 1_000
"""In one statement, but for a request that alone has more."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    submission: Submission
    committed: asyncio.Future[datetime | None]


class GroupCommit:
    def __init__(self, connect: Connect, notifier: OutboxNotifier) -> None:
        self._notifier = notifier
        self._idle = [connect() for _ in range(STATEMENTS_AT_ONCE)]
        self._waiting: deque[_Waiting] = deque()
        self._writers: set[asyncio.Task[None]] = set()

    async def submit(self, submission: Submission) -> datetime | None:
        """Commit; when that was, or None when another request holds the key and nothing was committed.

        Raises DatabaseUnavailable. A caller that goes away takes nothing back.
        """
        committed: asyncio.Future[datetime | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(submission, committed))
        if self._idle:
            writer = asyncio.create_task(self._write_all(self._idle.pop()), name="submissions")
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)
        return await committed

    async def close(self) -> None:
        """When no request waits for a commit any more. What is under way is given CLOSE_SECONDS."""
        writers = set(self._writers)
        if writers:
            await asyncio.wait(writers, timeout=CLOSE_SECONDS)
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
        for connection in self._idle:
            await connection.close()

    async def _write_all(self, connection: DatabaseConnection) -> None:
        try:
            while self._waiting:
                await self._write(connection, self._next_group())
        finally:
            self._idle.append(connection)

    def _next_group(self) -> list[_Waiting]:
        """The oldest, up to the limit. A key that is in it already waits for the next: it has one holder."""
        group: list[_Waiting] = []
        keys: set[str] = set()
        size = 0
        while self._waiting:
            submission = self._waiting[0].submission
            size += len(submission.tasks)
            key = submission.key.key if submission.key else None
            if group and (size > MOST_TASKS or key in keys):
                break
            if key is not None:
                keys.add(key)
            group.append(self._waiting.popleft())
        return group

    async def _write(self, connection: DatabaseConnection, group: Sequence[_Waiting]) -> None:
        """Never raises: who waits is told."""
        try:
            created_at, free = await submit.submit(connection.fetch, [each.submission for each in group])
        except StatementRefused as error:
            # Postgres refuses one of them, and that one alone shall hear of it.
            if len(group) == 1:
                _settle(group[0].committed, error)
                return
            for each in group:
                await self._write(connection, [each])
        except BaseException as error:
            for each in group:
                _settle(each.committed, error)
            if not isinstance(error, Exception):
                raise
        else:
            # First: the tasks are on their way while their requests are answered.
            self._notifier.send()
            for each in group:
                key = each.submission.key
                _settle(each.committed, created_at if key is None or key.key in free else None)


def _settle(future: asyncio.Future[datetime | None], outcome: datetime | BaseException | None) -> None:
    if future.done():  # the request went away
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
