"""Looks after parked tasks: those whose type the workers that got them do not know.

Workers that know the type take them by themselves, when they have a slot. A task that still waits is sent out again
after 5, 10, 20 … 60 s, or after a minute where a living worker knows its type: so workers of the release before, which
take no parked tasks, get it too. One that nobody knew for too long fails.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import structlog

from aftercommit.core import failures
from aftercommit.core.task_ref import TaskRef
from aftercommit.db import parked
from aftercommit.db.database import Database, Fetch
from aftercommit.db.parked import FIRST_LOOK_SECONDS, ParkedTask
from aftercommit.runtime.notifier import Notifier

log = structlog.get_logger(__name__)

INTERVAL_SECONDS: Final = 1.0
BATCH: Final = 1_000

SENT_AT_ONCE: Final = 100
"""In a round. However many tasks wait for a deploy, their messages keep no worker busy."""

LONGEST_WAIT_SECONDS: Final = 60.0
LOCKED_SECONDS: Final = 1.0
"""Until the next look at a task that is to fail, and whose row somebody holds locked."""


class ParkedSweeper:
    """Any number may run: each locks the rows that it looks at, and passes over those that are locked elsewhere."""

    def __init__(self, database: Database, notifier: Notifier, *, unknown_type_seconds: float) -> None:
        """``unknown_type_seconds``: how long a task waits for a worker that knows its type."""
        self._database = database
        self._notifier = notifier
        self._unknown_type_seconds = unknown_type_seconds

    async def run_once(self) -> float:
        """Look at a batch of the rows that are due. Returns the seconds until the next: 0 after a full one."""
        async with self._database.transaction() as fetch:
            due = await parked.lock_due(fetch, limit=BATCH)
            if not due:
                return INTERVAL_SECONDS
            over = [task for task in due if task.waits and task.age_seconds >= self._unknown_type_seconds]
            waiting = [task for task in due if task.waits and task.age_seconds < self._unknown_type_seconds]
            await parked.forget(fetch, [task.task_id for task in due if not task.waits])
            await self._look_later(fetch, over, waiting)
            unsent = [task for task in waiting if not task.known or task.age_seconds >= LONGEST_WAIT_SECONDS]
            sent = await self._send_again(fetch, unsent[:SENT_AT_ONCE])
            failed = await self._give_up(fetch, over)
        if sent or failed:
            self._notifier.outbox()
        if sent:
            log.info("parked_tasks_resent", count=sent, types=_types(unsent))
        if failed:
            log.warning("tasks_of_unknown_type_failed", count=failed, types=_types(over))
        return 0 if len(due) == BATCH else INTERVAL_SECONDS

    async def _look_later(self, fetch: Fetch, over: Iterable[ParkedTask], waiting: Iterable[ParkedTask]) -> None:
        seconds = {task.task_id: LOCKED_SECONDS for task in over}
        for task in waiting:
            left = self._unknown_type_seconds - task.age_seconds
            seconds[task.task_id] = min(LONGEST_WAIT_SECONDS if task.known else wait_seconds(task.looks), left)
        await parked.look_later(fetch, seconds)

    @staticmethod
    async def _send_again(fetch: Fetch, tasks: Sequence[ParkedTask]) -> int:
        if not tasks:
            return 0
        return await parked.send_again(fetch, {_ref(task): _error(_says(task)) for task in tasks})

    @staticmethod
    async def _give_up(fetch: Fetch, tasks: Sequence[ParkedTask]) -> int:
        if not tasks:
            return 0
        messages = {_ref(task): f"{_says(task)}, in {task.age_seconds:.0f} s" for task in tasks}
        errors = {ref: _error(message) for ref, message in messages.items()}
        reasons = [f"{failures.UNKNOWN_TYPE}: {message}" for message in messages.values()]
        return len(await parked.give_up(fetch, errors, reasons))


def wait_seconds(looks: int) -> float:
    """Until a task is sent out again at which workers looked so often."""
    return min(FIRST_LOOK_SECONDS * 2.0 ** min(looks, 10), LONGEST_WAIT_SECONDS)


def _ref(task: ParkedTask) -> TaskRef:
    return TaskRef(task.task_id, task.dispatch)


def _error(message: str) -> str:
    return failures.dump(failures.UNKNOWN_TYPE, message)


def _says(task: ParkedTask) -> str:
    return f"no worker that looked at it has a handler for {task.type!r}: {', '.join(task.looked)}"


def _types(tasks: Iterable[ParkedTask]) -> list[str]:
    return sorted({task.type for task in tasks})[:10]
