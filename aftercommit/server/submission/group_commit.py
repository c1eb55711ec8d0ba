"""Group commit: submissions that arrive while a statement is under way, or shortly after it, share the next one.

Each caller waits for the commit that holds its tasks. A lone submission is written at once, alone.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

import structlog

from aftercommit.db import submit
from aftercommit.db.database import Connect, DatabaseConnection
from aftercommit.db.outages import StatementRefused
from aftercommit.db.submit import Committed, Submission
from aftercommit.runtime.notifier import Notifier
from aftercommit.server.relay.eager_relay import EagerRelay
from aftercommit.server.submission.submission_queue import (
    CallerGone,
    Group,
    QueueLimits,
    SubmissionQueue,
    Waiting,
    settle,
    unanswered,
)

log = structlog.get_logger(__name__)

STATEMENTS_AT_ONCE: Final = 2
"""The second is for when many wait, or when Postgres holds the first one up."""

MANY_TASKS: Final = 32
HELD_UP_SECONDS: Final = 0.02

MOST_REST_SECONDS: Final = 0.004
"""After a statement the next one waits for as long as that took, up to this, unless many tasks wait. Each statement
costs the API, Postgres, the broker and the worker nearly as much as one for several tasks; at a steady rate the waits
for a busy processor get shorter by more than this rest."""

CLOSE_SECONDS: Final = 2.0


class GroupCommit:
    """Commits submissions over connections of its own. What waits is bounded in number, bytes and time."""

    def __init__(
        self, connect: Connect, notifier: Notifier, eager: EagerRelay | None = None, *, limits: QueueLimits
    ) -> None:
        self._notifier = notifier
        self._eager = eager
        self._queue = SubmissionQueue(limits)
        self._idle = [connect() for _ in range(STATEMENTS_AT_ONCE)]
        self._writers: set[asyncio.Task[None]] = set()
        # Times are seconds on the loop's clock.
        self._loop = asyncio.get_running_loop()
        self._started_at = 0.0
        self._rests_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_at = 0.0
        self._closing = False

    async def submit(
        self, submission: Submission, *, payload_bytes: int = 0, caller_gone: CallerGone | None = None
    ) -> datetime | None:
        """Commit; when that was, or None when another submission holds the key and nothing was committed.

        Raises Overloaded when nothing was committed for want of room or time, DatabaseTimeout when the statement was
        sent and not answered in time (whether it took effect is unknown), DatabaseUnavailable, StatementRefused.
        A submission whose caller is cancelled or gone before it was sent is dropped: SubmissionDropped.
        """
        committed = self._queue.add(submission, payload_bytes=payload_bytes, caller_gone=caller_gone)
        self._schedule()
        return await committed

    async def close(self) -> None:
        """Close the connections once no caller waits any more. Statements under way are given CLOSE_SECONDS."""
        self._closing = True
        self._schedule()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._writers or not self._queue.is_empty:
                    await (asyncio.wait(self._writers) if self._writers else asyncio.sleep(0))
        self._queue.close()
        for writer in self._writers:
            writer.cancel()
        await asyncio.gather(*self._writers, return_exceptions=True)
        for connection in self._idle:
            await connection.close()

    def _schedule(self) -> None:
        """Have what waits written when its time has come."""
        if self._queue.is_empty or not self._idle:
            return
        due_at = self._due_at()
        if self._timer is not None:
            if self._timer_due_at <= due_at:
                return
            self._timer.cancel()
        self._timer, self._timer_due_at = self._loop.call_at(due_at, self._start), due_at

    def _due_at(self) -> float:
        if self._closing or self._queue.waiting_tasks >= MANY_TASKS:
            return 0
        return self._started_at + HELD_UP_SECONDS if self._queue.is_under_way else self._rests_until

    def _start(self) -> None:
        self._timer = None
        if group := self._queue.take_group():
            connection = self._idle.pop()
            self._started_at = self._loop.time()
            writer = asyncio.create_task(self._write_all(connection, group), name="group-commit")
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)
        self._schedule()

    async def _write_all(self, connection: DatabaseConnection, group: Group) -> None:
        started_at = self._loop.time()
        try:
            await self._write(connection, group)
        finally:
            now = self._loop.time()
            self._rests_until = now + min(now - started_at, MOST_REST_SECONDS)
            self._queue.answered(group)
            self._idle.append(connection)
            self._schedule()

    async def _write(self, connection: DatabaseConnection, group: Sequence[Waiting]) -> None:
        """Commit a group and tell its callers. Raises nothing but what is no Exception."""
        try:
            committed = await self._commit(connection, [each.submission for each in group])
        except StatementRefused as error:
            # Postgres refuses one of them, and only that one is told.
            if len(group) == 1:
                settle(group[0].committed, error)
                return
            try:
                for each in group:
                    await self._write(connection, [each])
            except BaseException:
                for each in group:
                    settle(each.committed, unanswered("This API stops"))
                raise
        except BaseException as error:
            outcome = error if isinstance(error, Exception) else unanswered("This API stops")
            for each in group:
                settle(each.committed, outcome)
            if not isinstance(error, Exception):
                raise
        else:
            for each in group:
                key = each.submission.key
                free = key is None or key.key in committed.free_keys
                settle(each.committed, committed.created_at if free else None)

    async def _commit(self, connection: DatabaseConnection, submissions: Sequence[Submission]) -> Committed:
        """Commit, and send the tasks on their way before their requests are answered."""
        if self._eager is None:
            committed = await submit.submit(connection.fetch, submissions)
            self._notifier.outbox()
            self._wake_scheduler(committed)
            return committed
        terms = self._eager.terms(sum(len(each.tasks) for each in submissions))
        try:
            committed = await submit.submit(connection.fetch, submissions, terms)
        except BaseException:
            self._eager.not_committed(terms)
            raise
        try:
            self._eager.committed(terms, committed.rows)
        except Exception:  # the callers' tasks are committed all the same, and the relays take the rows after the grace
            log.exception("eager_relay_failed")
        self._wake_scheduler(committed)
        return committed

    def _wake_scheduler(self, committed: Committed) -> None:
        if committed.some_fall_due_soon:
            self._notifier.due()
