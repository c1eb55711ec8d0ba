"""Outcomes gather for a moment, and while the last batch is being written; each batch is written in one statement."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

import structlog

from aftercommit.core.errors import DatabaseTimeout
from aftercommit.core.outcomes import Outcome
from aftercommit.core.states import Event
from aftercommit.core.task_ref import TaskRef
from aftercommit.db import claims, record
from aftercommit.db.claims import ClaimedTask
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.outages import StatementRefused
from aftercommit.db.record import AttemptKey
from aftercommit.runtime.notifier import OutboxNotifier
from aftercommit.runtime.poll import first_of, poll
from aftercommit.worker import outcome_policy
from aftercommit.worker.postponed import Postponed
from aftercommit.worker.statistics import Statistics

log = structlog.get_logger(__name__)

LARGEST_BATCH: Final = 1_000
GATHER_SECONDS: Final = 0.005
"""Outcomes wait so long for those of other attempts under way. A slot is free before its outcome is written, so this
holds nothing up, and a statement for few costs nearly as much as one for many."""

ENOUGH: Final = 100
"""So many do not wait."""

IDLE_SECONDS: Final = 60.0


@dataclass(slots=True)  # not frozen: that costs more than all the rest of making one
class Ended:
    """An attempt and its outcome. ``recorded``: the handler's own transaction has it already.

    ``tries``: how often its row was found locked, or it was the only one of a statement that took too long.
    ``unstorable``: this outcome stands for one that Postgres refused.
    """

    task: ClaimedTask
    outcome: Outcome
    recorded: bool = False
    tries: int = 0
    unstorable: bool = False

    @property
    def key(self) -> AttemptKey:
        return self.task.id, self.task.attempt


class Recorder:
    """Keeps each outcome until it is in or fenced out; a worker that stops waits for that with ``drain``.

    ``unrecorded`` are the refs of claimed tasks whose outcome is not in yet: a second message for them is stale.
    """

    def __init__(self, connection: DatabaseConnection, notifier: OutboxNotifier, statistics: Statistics) -> None:
        self._connection = connection
        self._notifier = notifier
        self._statistics = statistics
        self._waiting: list[Ended] = []
        self._locked: Postponed[Ended] = Postponed()
        self._batch_limit = LARGEST_BATCH
        self._open_claims: dict[UUID, int] = {}
        self._kept_claims: set[UUID] = set()
        self._over_claims: set[UUID] = set()
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self.unrecorded: set[TaskRef] = set()

    def expect(self, claim_id: UUID, tasks: Sequence[ClaimedTask], *, keep: bool = False) -> None:
        """The outcomes of these tasks of a claim will come; the claim's row goes with the last.

        ``keep`` leaves the row to the rescuer, for as long as the lease: it may hold other tasks too.
        """
        if keep:
            self._kept_claims.add(claim_id)
        if tasks:
            self._open_claims[claim_id] = len(tasks)
            self.unrecorded.update(task.ref for task in tasks)

    def add(self, ended: Ended) -> None:
        self._waiting.append(ended)
        self._empty.clear()
        self._wake.set()

    async def run(self, stopping: asyncio.Event) -> None:
        async with self._connection:
            await poll("record", self.tick, stopping=stopping, wake=self._wake)

    async def drain(self, seconds: float) -> None:
        """Return when nothing waits to be written, or after ``seconds``. ``run`` must be running."""
        await first_of(self._empty, timeout_seconds=seconds)
        if left := len(self._waiting) + len(self._locked):
            log.error("outcomes_abandoned", count=left)

    async def tick(self) -> float:
        """Write a batch. An error keeps it for the next tick: DatabaseUnavailable as it is, others in smaller parts."""
        await self._gather()
        if batch := self._waiting[: self._batch_limit]:
            await self._write(batch)
        if self._waiting:
            return 0
        if not self._locked:
            self._empty.set()
        return self._locked.seconds_until_next(IDLE_SECONDS)

    async def _gather(self) -> None:
        self._waiting += self._locked.take_due(LARGEST_BATCH)
        if self._more_may_come() and len(self._waiting) < min(ENOUGH, self._batch_limit):
            await asyncio.sleep(GATHER_SECONDS)

    def _more_may_come(self) -> bool:
        return bool(self._waiting) and sum(self._open_claims.values()) > len(self._waiting)

    async def _write(self, batch: Sequence[Ended]) -> None:
        wanted = [ended.outcome for ended in batch if not ended.recorded]
        closed = [*self._over_claims, *self._closed_by(batch)]
        try:
            taken = await record.record(self._connection.fetch, wanted, closed=closed)
        except (StatementRefused, DatabaseTimeout) as error:
            self._retry_smaller(batch, error)
            return
        self._batch_limit = min(self._batch_limit * 2, LARGEST_BATCH)
        missing: list[Ended] = []
        for ended in batch:
            if ended.recorded or ended.key in taken:
                self._report(ended)
                self._settle(ended)
            else:
                missing.append(ended)
        self._waiting[: len(batch)] = missing
        if any(ended.outcome.ending is not Event.SUCCEED for ended in batch):
            self._notifier.send()
        if missing:
            self._note_over(closed)
            await self._sort_out(missing, closed)
        else:
            self._over_claims.clear()

    async def _sort_out(self, missing: Sequence[Ended], closed: Sequence[UUID]) -> None:
        """Postpone the outcomes whose rows somebody holds locked; the other ``missing`` ones are fenced out."""
        running = await record.find_running(self._connection.fetch, [ended.outcome for ended in missing])
        del self._waiting[: len(missing)]
        for ended in missing:
            if ended.key in running:
                if ended.tries == 0:
                    log.info("outcome_row_locked", **_fields(ended.task))
                self._postpone(ended)
            else:
                self._statistics.refused()
                log.warning("outcome_refused", ending=ended.outcome.ending, **_fields(ended.task))
                self._settle(ended)
        self._note_over(closed)
        if self._over_claims:
            await claims.forget(self._connection.fetch, list(self._over_claims))
            self._over_claims.clear()

    def _note_over(self, closed: Sequence[UUID]) -> None:
        """Remember which claims are over although the statement left them all, since an outcome was missing: the next
        statement may fail, and no later outcome is of these claims."""
        self._over_claims.update(claim_id for claim_id in closed if claim_id not in self._open_claims)

    def _postpone(self, ended: Ended) -> None:
        again = replace(ended, tries=ended.tries + 1)
        self._locked.add(again, tries=again.tries)

    def _closed_by(self, batch: Sequence[Ended]) -> list[UUID]:
        """The claims of which nothing is left after ``batch``."""
        done = Counter(ended.task.claim_id for ended in batch)
        return [
            claim_id
            for claim_id, count in done.items()
            if self._open_claims.get(claim_id, 0) <= count and claim_id not in self._kept_claims
        ]

    def _settle(self, ended: Ended) -> None:
        """The outcome is in, or fenced out for good."""
        claim_id = ended.task.claim_id
        left = self._open_claims.get(claim_id, 0) - 1
        if left > 0:
            self._open_claims[claim_id] = left
        else:
            self._open_claims.pop(claim_id, None)
        self.unrecorded.discard(ended.task.ref)

    def _retry_smaller(self, batch: Sequence[Ended], error: StatementRefused | DatabaseTimeout) -> None:
        """One outcome that Postgres refuses, or that takes too long, must not hold up the others: go on by halves.

        Alone, the refused one becomes a failure that can be stored, and the slow one waits for another try.
        """
        if len(batch) > 1:
            self._batch_limit = len(batch) // 2
            return
        ended = batch[0]
        if isinstance(error, DatabaseTimeout):
            del self._waiting[0]
            log.warning("outcome_too_slow", **_fields(ended.task))
            self._postpone(ended)
        elif ended.unstorable:
            raise error
        else:
            self._waiting[0] = Ended(ended.task, outcome_policy.unstorable(ended.task, str(error)), unstorable=True)

    def _report(self, ended: Ended) -> None:
        outcome, fields = ended.outcome, _fields(ended.task)
        self._statistics.recorded(outcome.ending)
        match outcome.ending:
            case Event.SUCCEED:
                log.debug("task_succeeded", **fields)
            case Event.RETRY:
                delay_seconds = outcome.delay.seconds if outcome.delay else None
                log.info("task_retrying", reason=outcome.reason, delay_seconds=delay_seconds, **fields)
            case Event.FAIL:
                log.warning("task_failed", reason=outcome.reason, **fields)
            case Event.RELEASE:
                log.info("task_released", **fields)


def _fields(task: ClaimedTask) -> dict[str, object]:
    return {"task_id": task.id, "type": task.type, "queue": task.queue, "attempt": task.attempt}
