"""What waits for a commit in one process, bounded in number, bytes and time. Groups are taken from it in order."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aftercommit.core.errors import DatabaseTimeout, Overloaded
from aftercommit.db.submit import Submission

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
class Waiting:
    """A submission whose caller waits. ``committed`` is when it was, or None where another one holds its key."""

    submission: Submission
    payload_bytes: int
    committed: asyncio.Future[datetime | None]
    deadline: float
    caller_gone: CallerGone | None
    watcher: asyncio.Task[None] | None = None
    sent: bool = False


Group = list[Waiting]


class SubmissionQueue:
    """``max_tasks`` and ``max_bytes`` bound what waits and what was sent and is not answered."""

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._waiting: deque[Waiting] = deque()
        self._sent: list[Group] = []
        # Of what waits and what was sent.
        self._tasks = 0
        self._bytes = 0
        self._sent_tasks = 0
        self._loop = asyncio.get_running_loop()
        self._review_timer: asyncio.TimerHandle | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._waiting

    @property
    def waiting_tasks(self) -> int:
        return self._tasks - self._sent_tasks

    @property
    def is_under_way(self) -> bool:
        """Whether something was sent and is not answered yet."""
        return bool(self._sent)

    def add(
        self, submission: Submission, *, payload_bytes: int, caller_gone: CallerGone | None
    ) -> asyncio.Future[datetime | None]:
        """Raises Overloaded when too much waits. A submission that finds nothing else there is always taken."""
        self._check_room(len(submission.tasks), payload_bytes)
        committed: asyncio.Future[datetime | None] = self._loop.create_future()
        deadline = self._loop.time() + self._limits.wait_seconds
        self._waiting.append(Waiting(submission, payload_bytes, committed, deadline, caller_gone))
        self._tasks += len(submission.tasks)
        self._bytes += payload_bytes
        if self._review_timer is None:
            self._review_timer = self._loop.call_later(REVIEW_SECONDS, self._review)
        return committed

    def take_group(self) -> Group:
        """The oldest, up to the limits; they count as sent until they are ``answered``. A second submission with a key
        of the group waits for the next group. Empty when nobody waits any more."""
        group: Group = []
        keys: set[str] = set()
        size = payload_bytes = 0
        while self._waiting:
            waiting = self._waiting[0]
            if waiting.committed.done():
                self._make_room([self._waiting.popleft()])
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
        if group:
            self._sent.append(group)
            self._sent_tasks += count_tasks(group)
        return group

    def answered(self, group: Group) -> None:
        """Make room for others."""
        self._sent.remove(group)
        self._sent_tasks -= count_tasks(group)
        self._make_room(group)

    def close(self) -> None:
        """Refuse what still waits."""
        while self._waiting:
            settle(self._waiting.popleft().committed, Overloaded("This API stops. Nothing was submitted: try again."))
        if self._review_timer is not None:
            self._review_timer.cancel()

    def _check_room(self, tasks: int, payload_bytes: int) -> None:
        limits = self._limits
        if self._tasks and (self._tasks + tasks > limits.max_tasks or self._bytes + payload_bytes > limits.max_bytes):
            raise Overloaded(
                f"{self._tasks} tasks with {self._bytes} bytes wait for Postgres already (SUBMIT_QUEUE_TASKS, "
                "SUBMIT_QUEUE_BYTES). Nothing was submitted: try again."
            )

    def _make_room(self, gone: Sequence[Waiting]) -> None:
        self._tasks -= count_tasks(gone)
        for waiting in gone:
            self._bytes -= waiting.payload_bytes

    def _review(self) -> None:
        """End the waits that last too long, drop whose caller is gone, and watch the callers of the others."""
        now = self._loop.time()
        seconds = self._limits.wait_seconds
        # A watcher costs more than a submit that goes through: only those that wait for long have one.
        overdue = now + seconds - REVIEW_SECONDS
        for waiting in self._waiting:
            if waiting.deadline <= now:
                settle(
                    waiting.committed,
                    Overloaded(
                        f"Postgres did not come to it within {seconds:g} s (SUBMIT_WAIT_SECONDS). Nothing was "
                        "submitted: try again."
                    ),
                )
            elif waiting.deadline <= overdue and waiting.watcher is None and waiting.caller_gone is not None:
                self._start_watching(waiting, waiting.caller_gone)
        for group in self._sent:
            for waiting in group:
                if waiting.deadline <= now:
                    settle(waiting.committed, unanswered(f"Postgres did not answer within {seconds:g} s"))
        self._make_room([waiting for waiting in self._waiting if waiting.committed.done()])
        self._waiting = deque(waiting for waiting in self._waiting if not waiting.committed.done())
        busy = self._waiting or self._sent
        self._review_timer = self._loop.call_later(REVIEW_SECONDS, self._review) if busy else None

    @staticmethod
    def _start_watching(waiting: Waiting, caller_gone: CallerGone) -> None:
        async def watch() -> None:
            await caller_gone()
            if not waiting.sent:  # what was sent is committed or not, whoever waits
                settle(waiting.committed, SubmissionDropped())

        watcher = waiting.watcher = asyncio.create_task(watch(), name="caller-watcher")
        waiting.committed.add_done_callback(lambda _: watcher.cancel())


def count_tasks(group: Sequence[Waiting]) -> int:
    return sum(len(waiting.submission.tasks) for waiting in group)


def unanswered(reason: str) -> DatabaseTimeout:
    return DatabaseTimeout(
        f"{reason}. Whether the tasks were submitted is unknown: send them again with the same Idempotency-Key."
    )


def settle(future: asyncio.Future[datetime | None], outcome: datetime | Exception | None) -> None:
    if future.done():  # the caller went away, or was told before
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
