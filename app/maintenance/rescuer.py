"""Sends out again what ran on workers that are lost, and what runs long past its timeout.

A lost worker costs each of its tasks an attempt, but only once: who is lost a second time may just have run beside
the guilty one again, so that is not charged, and from then on it runs in a process of its own. What dies there, or is
lost even so, is charged: a task that takes its worker down each time ends in the dead letters.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app import task_error
from app.config import Settings
from app.db import leases, outcomes, rescue
from app.db.engine import transaction, within
from app.db.rescue import LostTask
from app.db.signals import OutboxSignal
from app.errors import DatabaseUnavailable
from app.lifecycle import Event
from app.outcomes import Ending, Outcome

log = structlog.get_logger(__name__)

BATCH: Final = 1_000
PROBE: Final = "maintenance"
"""Names the lease that is opened, and given back in the same transaction, to see whether leases can be."""

LOST: Final = "worker lost"
OVERDUE: Final = "overdue: it still ran long after its timeout"


class Rescuer:
    """Any number may run: an outcome is fenced, so a task is rescued once."""

    def __init__(self, engine: AsyncEngine, signal: OutboxSignal, settings: Settings) -> None:
        self._engine = engine
        self._signal = signal
        self._settings = settings
        self._after_outage = False

    async def tick(self) -> float:
        """Rescue a batch. Returns 0 after a full one. Raises DatabaseUnavailable."""
        settings = self._settings
        try:
            if self._after_outage:
                # Leases lapsed because nobody could renew them: living workers release their tasks first, uncharged.
                # That they can is certain when a lease can be opened; a server whose disk is full may still read.
                async with transaction(self._engine) as connection:
                    await leases.open_lease(connection, name=PROBE, handlers="{}", seconds=0)
                    await leases.close(connection, PROBE)
                self._after_outage = False
                return settings.worker_lease_seconds
            return await self._rescue(settings)
        except DatabaseUnavailable:
            self._after_outage = True
            raise

    async def _rescue(self, settings: Settings) -> float:
        async with transaction(self._engine) as connection:
            lost = await rescue.find_lost(connection, max_retries=settings.max_retries, limit=BATCH)
            overdue = await rescue.find_overdue(
                connection,
                max_retries=settings.max_retries,
                timeout_seconds=settings.task_timeout_seconds,
                grace_seconds=settings.rescue_overdue_seconds,
                limit=BATCH,
            )
            found = {task.id: task for task in (*lost, *overdue)}
            ended = [decide(task, LOST) for task in lost] + [decide(task, OVERDUE) for task in overdue]
            taken = await outcomes.record(within(connection), ended) if ended else set()
            await rescue.drop_empty_claims(connection)
            await leases.prune(connection)
        if taken:
            self._signal.send()
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
    ending, reason = _ending(task, what, charged=kind is not task_error.LOST_AGAIN or task.suspect)
    return Outcome(
        task_id=task.id,
        attempt=task.attempt,
        worker=task.worker,
        ending=ending,
        error=task_error.dump(kind, what),
        reason=reason,
    )


def _kind(task: LostTask, what: str) -> str:
    if what is OVERDUE:
        return task_error.OVERDUE
    return task_error.LOST_AGAIN if task.lost_before or task.suspect else task_error.WORKER_LOST


def _ending(task: LostTask, what: str, *, charged: bool) -> tuple[Ending, str]:
    """And the reason for it."""
    if not charged:
        return Event.RELEASE, what
    if task.charged > task.allowed:
        return Event.FAIL, f"failed {task.charged} of {task.allowed + 1} attempts: {what}"
    return Event.RETRY, what
