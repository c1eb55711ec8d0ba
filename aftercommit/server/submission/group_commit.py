"""Group commit: submissions that arrive while a statement is under way, or shortly after it, share the next one.

Each caller waits for the commit that holds its tasks. A lone submission is written at once, alone.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from aftercommit.core.errors import DatabaseTimeout, Overloaded
from aftercommit.db import submit
from aftercommit.db.database import Connect, DatabaseConnection
from aftercommit.db.outages import StatementRefused
from aftercommit.db.submit import Committed, Submission
from aftercommit.runtime.notifier import Notifier
from aftercommit.server.relay.eager_relay import EagerRelay

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

LARGEST_GROUP_TASKS: Final = 1_000
LARGEST_GROUP_BYTES: Final = 8_388_608
"""Of payloads. A submission that alone is larger is a group of its own."""

REVIEW_SECONDS: Final = 0.25
"""Between looks for submissions that have waited too long, or whose caller is gone."""

CallerGone = Callable[[], Awaitable[object]]
"""Returns when the caller no longer waits for the answer."""


class SubmissionDropped(Exception):
    """The caller left before its submission was sent to Postgres: nothing was committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """How many tasks and payload bytes may wait for a commit in one process, and how long a caller waits."""

    max_tasks: int
    max_bytes: int
    wait_seconds: float


@dataclass(slots=True, eq=False)
class _Waiting:
    submission: Submission
    payload_bytes: int
    committed: asyncio.Future[datetime | None]
    deadline: float
    caller_gone: CallerGone | None
    watcher: asyncio.Task[None] | None = None
    sent: bool = False


class GroupCommit:
    """Commits submissions over connections of its own. What waits is bounded in number, bytes and time."""

    def __init__(
        self, connect: Connect, notifier: Notifier, eager: EagerRelay | None = None, *, limits: QueueLimits
    ) -> None:
        self._notifier = notifier
        self._eager = eager
        self._limits = limits
        self._idle = [connect() for _ in range(STATEMENTS_AT_ONCE)]
        self._waiting: deque[_Waiting] = deque()
        self._sent: dict[DatabaseConnection, list[_Waiting]] = {}
        self._writers: set[asyncio.Task[None]] = set()
        # Times are seconds on the loop's clock.
        self._loop = asyncio.get_running_loop()
        self._started_at = 0.0
        self._rests_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_at = 0.0
        self._closing = False
        self._review_timer: asyncio.TimerHandle | None = None
        # Of what waits and what was sent.
        self._tasks = 0
        self._bytes = 0
        self._sent_tasks = 0

    async def submit(
        self, submission: Submission, *, payload_bytes: int = 0, caller_gone: CallerGone | None = None
    ) -> datetime | None:
        """Commit; when that was, or None when another submission holds the key and nothing was committed.

        Raises Overloaded when nothing was committed for want of room or time, DatabaseTimeout when the statement was
        sent and not answered in time (whether it took effect is unknown), DatabaseUnavailable, StatementRefused.
        A submission whose caller is cancelled or gone before it was sent is dropped: SubmissionDropped.
        """
        self._check_room(len(submission.tasks), payload_bytes)
        committed: asyncio.Future[datetime | None] = self._loop.create_future()
        deadline = self._loop.time() + self._limits.wait_seconds
        self._waiting.append(_Waiting(submission, payload_bytes, committed, deadline, caller_gone))
        self._tasks += len(submission.tasks)
        self._bytes += payload_bytes
        self._schedule()
        if self._review_timer is None:
            self._review_timer = self._loop.call_later(REVIEW_SECONDS, self._review)
        return await committed

    async def close(self) -> None:
        """Close the connections once no caller waits any more. Statements under way are given CLOSE_SECONDS."""
        self._closing = True
        self._schedule()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._waiting or self._writers:
                    await (asyncio.wait(self._writers) if self._writers else asyncio.sleep(0))
        while self._waiting:
            _settle(self._waiting.popleft().committed, Overloaded("This API stops. Nothing was submitted: try again."))
        for writer in self._writers:
            writer.cancel()
        await asyncio.gather(*self._writers, return_exceptions=True)
        if self._review_timer is not None:
            self._review_timer.cancel()
        for connection in self._idle:
            await connection.close()

    def _check_room(self, tasks: int, payload_bytes: int) -> None:
        """Raise Overloaded when too much waits. A submission that finds nothing else there is always taken."""
        limits = self._limits
        if self._tasks and (self._tasks + tasks > limits.max_tasks or self._bytes + payload_bytes > limits.max_bytes):
            raise Overloaded(
                f"{self._tasks} tasks with {self._bytes} bytes wait for Postgres already (SUBMIT_QUEUE_TASKS, "
                "SUBMIT_QUEUE_BYTES). Nothing was submitted: try again."
            )

    def _schedule(self) -> None:
        """Have what waits written when its time has come."""
        if not self._waiting or not self._idle:
            return
        due_at = self._due_at()
        if self._timer is not None:
            if self._timer_due_at <= due_at:
                return
            self._timer.cancel()
        self._timer, self._timer_due_at = self._loop.call_at(due_at, self._start), due_at

    def _due_at(self) -> float:
        if self._closing or self._tasks - self._sent_tasks >= MANY_TASKS:
            return 0
        return self._started_at + HELD_UP_SECONDS if self._sent else self._rests_until

    def _start(self) -> None:
        self._timer = None
        if group := self._next_group():
            connection = self._idle.pop()
            self._started_at = self._loop.time()
            self._sent[connection] = group
            self._sent_tasks += _tasks(group)
            writer = asyncio.create_task(self._write_all(connection, group), name="group-commit")
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)
        self._schedule()

    async def _write_all(self, connection: DatabaseConnection, group: list[_Waiting]) -> None:
        started_at = self._loop.time()
        try:
            await self._write(connection, group)
        finally:
            now = self._loop.time()
            self._rests_until = now + min(now - started_at, MOST_REST_SECONDS)
            del self._sent[connection]
            self._sent_tasks -= _tasks(group)
            self._release(group)
            self._idle.append(connection)
            self._schedule()

    def _next_group(self) -> list[_Waiting]:
        """The oldest, up to the limits. A second submission with a key of the group waits for the next group."""
        group: list[_Waiting] = []
        keys: set[str] = set()
        size = payload_bytes = 0
        while self._waiting:
            waiting = self._waiting[0]
            if waiting.committed.done():
                self._release([self._waiting.popleft()])
                continue
            submission = waiting.submission
            size += len(submission.tasks)
            payload_bytes += waiting.payload_bytes
            key = submission.key.key if submission.key else None
            if group and (size > LARGEST_GROUP_TASKS or payload_bytes > LARGEST_GROUP_BYTES or key in keys):
                break
            if key is not None:
                keys.add(key)
            waiting.sent = True
            group.append(self._waiting.popleft())
        return group

    def _release(self, gone: Sequence[_Waiting]) -> None:
        """Make room for others."""
        self._tasks -= _tasks(gone)
        for waiting in gone:
            self._bytes -= waiting.payload_bytes

    async def _write(self, connection: DatabaseConnection, group: Sequence[_Waiting]) -> None:
        """Commit a group and tell its callers. Raises nothing but what is no Exception."""
        try:
            committed = await self._commit(connection, [each.submission for each in group])
        except StatementRefused as error:
            # Postgres refuses one of them, and only that one is told.
            if len(group) == 1:
                _settle(group[0].committed, error)
                return
            try:
                for each in group:
                    await self._write(connection, [each])
            except BaseException:
                for each in group:
                    _settle(each.committed, _unanswered("This API stops"))
                raise
        except BaseException as error:
            outcome = error if isinstance(error, Exception) else _unanswered("This API stops")
            for each in group:
                _settle(each.committed, outcome)
            if not isinstance(error, Exception):
                raise
        else:
            for each in group:
                key = each.submission.key
                free = key is None or key.key in committed.free_keys
                _settle(each.committed, committed.created_at if free else None)

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

    def _review(self) -> None:
        """End the waits that last too long, drop whose caller is gone, and watch the callers of the others."""
        now = self._loop.time()
        seconds = self._limits.wait_seconds
        # A watcher costs more than a submit that goes through: only those that wait for long have one.
        overdue = now + seconds - REVIEW_SECONDS
        for waiting in self._waiting:
            if waiting.deadline <= now:
                _settle(
                    waiting.committed,
                    Overloaded(
                        f"Postgres did not come to it within {seconds:g} s (SUBMIT_WAIT_SECONDS). Nothing was "
                        "submitted: try again."
                    ),
                )
            elif waiting.deadline <= overdue and waiting.watcher is None and waiting.caller_gone is not None:
                self._start_watching(waiting, waiting.caller_gone)
        for group in self._sent.values():
            for waiting in group:
                if waiting.deadline <= now:
                    _settle(waiting.committed, _unanswered(f"Postgres did not answer within {seconds:g} s"))
        self._release([waiting for waiting in self._waiting if waiting.committed.done()])
        self._waiting = deque(waiting for waiting in self._waiting if not waiting.committed.done())
        busy = self._waiting or self._sent
        self._review_timer = self._loop.call_later(REVIEW_SECONDS, self._review) if busy else None

    @staticmethod
    def _start_watching(waiting: _Waiting, caller_gone: CallerGone) -> None:
        async def watch() -> None:
            await caller_gone()
            if not waiting.sent:  # what was sent is committed or not, whoever waits
                _settle(waiting.committed, SubmissionDropped())

        watcher = waiting.watcher = asyncio.create_task(watch(), name="caller-watcher")
        waiting.committed.add_done_callback(lambda _: watcher.cancel())


def _tasks(group: Sequence[_Waiting]) -> int:
    return sum(len(waiting.submission.tasks) for waiting in group)


def _unanswered(reason: str) -> DatabaseTimeout:
    return DatabaseTimeout(
        f"{reason}. Whether the tasks were submitted is unknown: send them again with the same Idempotency-Key."
    )


def _settle(future: asyncio.Future[datetime | None], outcome: datetime | Exception | None) -> None:
    if future.done():  # the caller went away, or was told before
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
