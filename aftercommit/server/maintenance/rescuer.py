"""Sends tasks out again whose worker is lost, and tasks that run long past their timeout.

A lost worker costs each of its tasks an attempt, but only once: a task that is lost a second time may just have run
beside the guilty one again, so it is not charged, and from then on it runs in a process of its own. A task whose own
process dies, or that is lost even so, is charged: a task that takes its worker down each time ends in the dead letters.

What a worker allows its tasks (max_retries, timeout_seconds) stands in its row of ``workers``; the settings of this
process say nothing about it.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

import structlog
from uuid_utils.compat import uuid4

from aftercommit.core import failures
from aftercommit.core.errors import DatabaseUnavailable
from aftercommit.core.outcomes import Ending, Outcome
from aftercommit.core.states import Event
from aftercommit.db import grants, leases, record, rescue
from aftercommit.db.database import Database, Fetch
from aftercommit.db.outages import StatementRefused
from aftercommit.db.record import AttemptKey
from aftercommit.db.rescue import LostTask
from aftercommit.runtime.notifier import Notifier

log = structlog.get_logger(__name__)

BATCH: Final = 1_000
PASS_OVER_SECONDS: Final = 60.0
"""How long a task is left alone whose rescue Postgres refused."""

OUTCOME_SECONDS: Final = 3.0
"""A task is overdue only when it was so for this long with its row free: its worker may have had its outcome for long,
and have waited for somebody else's lock. It looks every second."""

LOST: Final = "worker lost"
OVERDUE: Final = "overdue: it still ran long after its timeout"


class Rescuer:
    """Any number may run: each locks the tasks that it rescues, and passes over those that are locked elsewhere."""

    def __init__(
        self,
        database: Database,
        notifier: Notifier,
        *,
        interval_seconds: float,
        overdue_seconds: float,
    ) -> None:
        """``overdue_seconds``: how long past its timeout a task counts as lost although its worker lives."""
        self._database = database
        self._notifier = notifier
        self._interval_seconds = interval_seconds
        self._overdue_seconds = overdue_seconds
        self._after_outage = False
        self._limit = BATCH
        self._locked: list[LostTask] = []
        self._refused_at: dict[UUID, float] = {}
        self._overdue_since: dict[tuple[UUID, int], float] = {}

    async def run_once(self) -> float:
        """Rescue a batch. Returns the seconds until the next: 0 after a full one. Raises DatabaseUnavailable,
        DatabaseTimeout."""
        try:
            if self._after_outage:
                return await self._wait_for_workers()
            return await self._rescue()
        except DatabaseUnavailable:
            self._after_outage = True
            raise
        except StatementRefused as error:
            if not self._locked:
                raise  # no task is to blame
            self._narrow_down(error)
            return 0

    async def _wait_for_workers(self) -> float:
        """After an outage: leases lapsed because nobody could renew them, and living workers release their tasks first,
        uncharged. They can once a lease can be opened: a server whose disk is full may still read."""
        async with self._database.transaction() as fetch:
            await leases.probe(fetch, f"maintenance-{uuid4().hex}")
            seconds = await leases.longest_lease_seconds(fetch)
        self._after_outage = False
        return max(seconds, self._interval_seconds)

    async def _rescue(self) -> float:
        async with self._database.transaction() as fetch:
            ended = await self._lock(fetch)
            taken = await record.record(fetch, ended) if ended else {}
            await rescue.drop_empty_claims(fetch)
            await grants.drop_dead(fetch)
            await leases.prune(fetch)
        if taken:
            self._notifier.outbox()
        found = {task.id: task for task in self._locked}
        self._report(taken, found)
        full = len(ended) >= self._limit
        self._limit = BATCH
        return 0 if full else self._interval_seconds

    async def _lock(self, fetch: Fetch) -> list[Outcome]:
        """Lock a batch, and decide what becomes of each task."""
        passing_over = self._passed_over()
        self._locked = []
        lost = await rescue.lock_lost(fetch, passing_over=passing_over, limit=self._limit)
        self._locked = lost
        overdue = self._still_overdue(
            await rescue.lock_overdue(
                fetch, grace_seconds=self._overdue_seconds, passing_over=passing_over, limit=self._limit - len(lost)
            )
        )
        self._locked = [*lost, *overdue]
        return [decide(task, LOST) for task in lost] + [decide(task, OVERDUE) for task in overdue]

    def _still_overdue(self, found: Sequence[LostTask]) -> list[LostTask]:
        """Those that every look has found for OUTCOME_SECONDS. A look that meets a locked row does not find it."""
        now = time.monotonic()
        before = self._overdue_since
        self._overdue_since = {(task.id, task.attempt): before.get((task.id, task.attempt), now) for task in found}
        return [task for task in found if now - self._overdue_since[task.id, task.attempt] >= OUTCOME_SECONDS]

    def _narrow_down(self, error: StatementRefused) -> None:
        """Postgres refused the batch for a value in it: halve the batch until the task is found, and pass over that."""
        if len(self._locked) > 1:
            self._limit = len(self._locked) // 2
            return
        self._limit = BATCH
        for task in self._locked:
            log.error("task_not_rescued", task_id=str(task.id), type=task.type, queue=task.queue, error=str(error))
            self._refused_at[task.id] = time.monotonic()

    def _passed_over(self) -> list[UUID]:
        oldest = time.monotonic() - PASS_OVER_SECONDS
        self._refused_at = {task_id: moment for task_id, moment in self._refused_at.items() if moment > oldest}
        return list(self._refused_at)

    @staticmethod
    def _report(rescued: Mapping[AttemptKey, Event], found: Mapping[UUID, LostTask]) -> None:
        for (task_id, attempt), ending in rescued.items():
            task = found[task_id]
            log.warning(
                "task_rescued",
                task_id=str(task.id),
                type=task.type,
                queue=task.queue,
                attempt=attempt,
                worker=task.worker,
                ending=ending,
            )


def decide(task: LostTask, what: str) -> Outcome:
    """A retry at once, a release when the attempt is not to be charged, or the end when the attempts are used up or the
    deadline has passed."""
    if task.expired:
        error = failures.dump(failures.EXPIRED, f"its deadline has passed; {what}")
        return Outcome(
            task_id=task.id, attempt=task.attempt, worker=task.worker, ending=Event.CUT, error=error, reason=what
        )
    kind = _kind(task, what)
    ending, reason = _ending(task, what, charged=kind is not failures.LOST_AGAIN or task.suspect)
    return Outcome(
        task_id=task.id,
        attempt=task.attempt,
        worker=task.worker,
        ending=ending,
        error=failures.dump(kind, what),
        reason=reason,
    )


def _kind(task: LostTask, what: str) -> str:
    if what is OVERDUE:
        return failures.OVERDUE
    return failures.LOST_AGAIN if task.lost_before or task.suspect else failures.WORKER_LOST


def _ending(task: LostTask, what: str, *, charged: bool) -> tuple[Ending, str]:
    """What ends the attempt, and why. Where nobody knows how many retries are allowed the task is not charged: the
    worker's row was deleted by hand, or by a worker of an older release that stopped in order."""
    if task.allowed is None or not charged:
        return Event.RELEASE, what
    if task.charged > task.allowed:
        return Event.FAIL, f"failed {task.charged} of {task.allowed + 1} attempts: {what}"
    return Event.RETRY, what
