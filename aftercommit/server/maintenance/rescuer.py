"""Sends out again what ran on workers that are lost, and what runs long past its timeout.

A lost worker costs each of its tasks an attempt, but only once: who is lost a second time may just have run beside
the guilty one again, so that is not charged, and from then on it runs in a process of its own. What dies there, or is
lost even so, is charged: a task that takes its worker down each time ends in the dead letters.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog

from aftercommit.core import failures
from aftercommit.core.errors import DatabaseUnavailable
from aftercommit.core.outcomes import Ending, Outcome
from aftercommit.core.settings import Settings
from aftercommit.core.states import Event
from aftercommit.db import leases, record, rescue
from aftercommit.db.database import Database
from aftercommit.db.rescue import LostTask
from aftercommit.runtime.notifier import OutboxNotifier

log = structlog.get_logger(__name__)

BATCH: Final = 1_000
PROBE: Final = "maintenance"
"""Names the lease that is opened, and given back in the same transaction, to see whether leases can be."""

LOST: Final = "worker lost"
OVERDUE: Final = "overdue: it still ran long after its timeout"


class Rescuer:
    """Any number may run: an outcome is fenced, so a task is rescued once."""

    def __init__(self, database: Database, notifier: OutboxNotifier, settings: Settings) -> None:
        self._database = database
        self._notifier = notifier
        self._settings = settings
        self._after_outage = False

    async def tick(self) -> float:
        """Rescue a batch. Returns 0 after a full one. Raises DatabaseUnavailable."""
        settings = self._settings
        try:
            if self._after_outage:
                # Leases lapsed because nobody could renew them: living workers release their tasks first, uncharged.
                # That they can is certain when a lease can be opened; a server whose disk is full may still read.
                async with self._database.transaction() as fetch:
                    await leases.open_lease(fetch, name=PROBE, handlers="{}", seconds=0)
                    await leases.close(fetch, PROBE)
                self._after_outage = False
                return settings.worker_lease_seconds
            return await self._rescue(settings)
        except DatabaseUnavailable:
            self._after_outage = True
            raise

    async def _rescue(self, settings: Settings) -> float:
        async with self._database.transaction() as fetch:
            lost = await rescue.find_lost(fetch, max_retries=settings.max_retries, limit=BATCH)
            overdue = await rescue.find_overdue(
                fetch,
                max_retries=settings.max_retries,
                timeout_seconds=settings.task_timeout_seconds,
                grace_seconds=settings.rescue_overdue_seconds,
                limit=BATCH,
            )
            found = {task.id: task for task in (*lost, *overdue)}
            ended = [decide(task, LOST) for task in lost] + [decide(task, OVERDUE) for task in overdue]
            taken = await record.record(fetch, ended) if ended else set()
            await rescue.drop_empty_claims(fetch)
            await leases.prune(fetch)
        if taken:
            self._notifier.send()
        self._report([outcome for outcome in ended if (outcome.task_id, outcome.attempt) in taken], found)
        return 0 if len(lost) == BATCH or len(overdue) == BATCH else settings.rescue_interval_seconds

    @staticmethod
    def _report(rescued: Sequence[Outcome], found: dict[UUID, LostTask]) -> None:
        for outcome in rescued:
            task = found[outcome.task_id]
            log.warning(
                "task_rescued",
                task_id=str(task.id),
                type=task.type,
                queue=task.queue,
                attempt=task.attempt,
                worker=task.worker,
                ending=outcome.ending,
            )


def decide(task: LostTask, what: str) -> Outcome:
    """At once again, uncharged when it is lost for the second time, or the end when its attempts are used up."""
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
    """And the reason for it."""
    if not charged:
        return Event.RELEASE, what
    if task.charged > task.allowed:
        return Event.FAIL, f"failed {task.charged} of {task.allowed + 1} attempts: {what}"
    return Event.RETRY, what
