"""Outcomes gather for a moment, and while the last batch is being written; each batch is written in one statement, that
of the next claim where one comes."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

import structlog

from aftercommit.core.errors import DatabaseTimeout
from aftercommit.core.outcomes import Outcome
from aftercommit.core.states import Event
from aftercommit.core.task_ref import TaskRef
from aftercommit.db import claims, record, record_and_claim
from aftercommit.db.claims import ClaimedTask
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.outages import StatementRefused
from aftercommit.db.record import AttemptKey
from aftercommit.runtime.notifier import Notifier
from aftercommit.runtime.poll import first_of, poll
from aftercommit.worker import outcome_policy
from aftercommit.worker.open_claims import OpenClaims
from aftercommit.worker.postponed import Postponed
from aftercommit.worker.statistics import Statistics

log = structlog.get_logger(__name__)

LARGEST_BATCH: Final = 1_000
GATHER_SECONDS: Final = 0.005
"""Outcomes wait so long for those of other attempts under way, and for the next claim while claims come as often. A
slot is free before its outcome is written, so this holds nothing up, and a statement for few costs nearly as much as
one for many."""

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


@dataclass(frozen=True, slots=True)
class Batch:
    """What one statement is to write: the outcomes, and the claims of which nothing is left then."""

    ended: Sequence[Ended]
    closed: Sequence[UUID]

    @property
    def outcomes(self) -> list[Outcome]:
        return [ended.outcome for ended in self.ended if not ended.recorded]


class Recorder:
    """Keeps each outcome until it is in or fenced out; a worker that stops waits for that with ``drain``.

    One batch is written at a time, by ``run`` or, while it is lent, by a claim. ``unrecorded`` are the refs of claimed
    tasks whose outcome is not in yet: a second message for them is stale.
    """

    def __init__(self, connection: DatabaseConnection, notifier: Notifier, statistics: Statistics) -> None:
        self._connection = connection
        self._notifier = notifier
        self._statistics = statistics
        self._plain: list[Ended] = []
        """These may be lent to a claim."""
        self._apart: list[Ended] = []
        """All others: they need their own statement, or their last one failed."""
        self._under_way = 0
        """How many outcomes are being written."""
        self._locked: Postponed[Ended] = Postponed()
        self._batch_limit = LARGEST_BATCH
        self._claims = OpenClaims()
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._loop = asyncio.get_running_loop()
        self._tells_successes = log.is_enabled_for(logging.DEBUG)
        self._gathering: asyncio.TimerHandle | None = None
        self._lent_at = 0.0
        self._claims_follow = False
        self.unrecorded: set[TaskRef] = set()

    def expect(self, claim_id: UUID, tasks: Sequence[ClaimedTask], *, keep: bool = False) -> None:
        """The outcomes of these tasks of a claim will come; the claim's row goes with the last.

        ``keep`` leaves the row to the rescuer, for as long as the lease: it may hold other tasks too.
        """
        self._claims.expect(claim_id, len(tasks), keep=keep)
        self.unrecorded.update(task.ref for task in tasks)

    def add(self, ended: Ended) -> None:
        plain = not ended.recorded and record_and_claim.fits(ended.outcome)
        (self._plain if plain else self._apart).append(ended)
        self._empty.clear()
        if self._waiting >= min(ENOUGH, self._batch_limit):
            self._wake.set()
        elif self._gathering is None:
            self._gather()

    def lend(self) -> Batch | None:
        """Outcomes for the statement of a claim that is about to be sent, if some wait and none are being written.

        The claim gives them back with ``wrote`` or ``failed``.
        """
        now = self._loop.time()
        self._claims_follow, self._lent_at = now - self._lent_at < GATHER_SECONDS, now
        if self._under_way or not self._plain or self._batch_limit < LARGEST_BATCH:
            return None
        return self._take([], self._plain)

    def wrote(self, batch: Batch, taken: Mapping[AttemptKey, Event]) -> None:
        """The statement of a claim is committed. What it did not take needs a look by ``run``."""
        self._apart[:0] = self._settle_taken(batch, taken)
        self._go_on()

    def failed(self, batch: Batch) -> None:
        """The statement of a claim may or may not be committed."""
        self._keep(batch)
        self._go_on()

    async def run(self, stopping: asyncio.Event) -> None:
        async with self._connection:
            await poll("record", self.tick, stopping=stopping, wake=self._wake)

    async def drain(self, seconds: float) -> None:
        """Return when nothing waits to be written, or after ``seconds``. ``run`` must be running."""
        await first_of(self._empty, timeout_seconds=seconds)
        if left := self._waiting + self._under_way + len(self._locked):
            log.error("outcomes_abandoned", count=left)

    async def tick(self) -> float:
        """Write a batch. An error keeps it for the next tick: DatabaseUnavailable as it is, others in smaller parts."""
        self._apart += self._locked.take_due(LARGEST_BATCH)
        if self._waiting and not self._under_way:
            await self._write(self._take(self._apart, self._plain))
        if not self._under_way and (self._apart or (self._plain and self._gathering is None)):
            return 0
        self._note_empty()
        # What came meanwhile gathers, and what a claim was lent comes back: both wake this loop.
        return self._locked.seconds_until_next(IDLE_SECONDS)

    @property
    def _waiting(self) -> int:
        return len(self._apart) + len(self._plain)

    def _gather(self) -> None:
        """Have ``run`` write, at once or when others had the time to join."""
        if self._claims_follow or len(self.unrecorded) > self._waiting:
            self._gathering = self._loop.call_later(GATHER_SECONDS, self._end_gathering)
        else:
            self._wake.set()

    def _end_gathering(self) -> None:
        self._gathering = None
        self._wake.set()

    def _go_on(self) -> None:
        """A lent batch came back."""
        if self._apart:
            self._wake.set()
        elif self._plain and self._gathering is None:
            self._gather()
        self._note_empty()

    def _note_empty(self) -> None:
        if not (self._waiting or self._under_way or self._locked):
            self._empty.set()

    def _take(self, *lists: list[Ended]) -> Batch:
        """The first of ``lists``, which are under way from now on."""
        batch: list[Ended] = []
        for each in lists:
            some = each[: self._batch_limit - len(batch)]
            del each[: len(some)]
            batch += some
        if self._gathering is not None and not self._waiting:
            self._gathering.cancel()
            self._gathering = None
        self._under_way = len(batch)
        return Batch(batch, self._claims.closed_by(ended.task.claim_id for ended in batch))

    def _keep(self, batch: Batch) -> None:
        """It is not known to be in, so it waits again."""
        self._apart[:0] = batch.ended
        self._under_way = 0

    async def _write(self, batch: Batch) -> None:
        try:
            taken = await record.record(self._connection.fetch, batch.outcomes, closed=batch.closed)
        except (StatementRefused, DatabaseTimeout) as error:
            self._keep(batch)
            self._retry_smaller(batch, error)
            return
        except BaseException:
            self._keep(batch)
            raise
        self._batch_limit = min(self._batch_limit * 2, LARGEST_BATCH)
        missing = self._settle_taken(batch, taken)
        if any(ended.outcome.ending is not Event.SUCCEED for ended in batch.ended):
            self._notifier.outbox()
            if any((delay := ended.outcome.delay) and not delay.by_broker for ended in batch.ended):
                self._notifier.due()
        if missing:
            self._apart[:0] = missing
            await self._sort_out(missing, batch.closed)

    def _settle_taken(self, batch: Batch, taken: Mapping[AttemptKey, Event]) -> list[Ended]:
        """What is missing among the ``taken``, which tells how each ended: locked, to be cancelled, or fenced out."""
        self._under_way = 0
        missing: list[Ended] = []
        for ended in batch.ended:
            if ended.recorded or ended.key in taken:
                self._report(ended, taken.get(ended.key, ended.outcome.ending))
                self._settle(ended)
            else:
                missing.append(ended)
        if missing:
            self._claims.left(batch.closed)
        else:
            self._claims.deleted(batch.closed)
        return missing

    async def _sort_out(self, missing: Sequence[Ended], closed: Sequence[UUID]) -> None:
        """Postpone the outcomes whose rows somebody holds locked; the other ``missing`` ones are fenced out."""
        self._under_way = len(missing)
        try:
            running = await record.find_running(self._connection.fetch, [ended.outcome for ended in missing])
        finally:
            self._under_way = 0
        del self._apart[: len(missing)]
        for ended in missing:
            if ended.key in running:
                if ended.tries == 0:
                    log.info("outcome_row_locked", **_fields(ended.task))
                self._postpone(ended)
            else:
                self._statistics.refused()
                log.warning("outcome_refused", ending=ended.outcome.ending, **_fields(ended.task))
                self._settle(ended)
        self._claims.left(closed)
        if over := self._claims.over:
            await claims.forget(self._connection.fetch, over)
            self._claims.deleted(over)

    def _postpone(self, ended: Ended) -> None:
        again = replace(ended, tries=ended.tries + 1)
        self._locked.add(again, tries=again.tries)

    def _settle(self, ended: Ended) -> None:
        """The outcome is in, or fenced out for good."""
        self._claims.settle(ended.task.claim_id)
        self.unrecorded.discard(ended.task.ref)

    def _retry_smaller(self, batch: Batch, error: StatementRefused | DatabaseTimeout) -> None:
        """One outcome that Postgres refuses, or that takes too long, must not hold up the others: go on by halves.

        Alone, the refused one becomes a failure that can be stored, and the slow one waits for another try.
        """
        if len(batch.ended) > 1:
            self._batch_limit = len(batch.ended) // 2
            return
        (ended,) = batch.ended
        if isinstance(error, DatabaseTimeout):
            del self._apart[0]
            log.warning("outcome_too_slow", **_fields(ended.task))
            self._postpone(ended)
        elif ended.unstorable:
            raise error
        else:
            self._apart[0] = Ended(ended.task, outcome_policy.unstorable(ended.task, str(error)), unstorable=True)

    def _report(self, ended: Ended, event: Event) -> None:
        """``event`` is what ended the attempt: of a task that is to be cancelled not its outcome."""
        outcome = ended.outcome
        self._statistics.recorded(event)
        if event is Event.SUCCEED and not self._tells_successes:
            return
        fields = _fields(ended.task)
        match event:
            case Event.SUCCEED:
                log.debug("task_succeeded", **fields)
            case Event.RETRY | Event.SNOOZE:
                delay_seconds = outcome.delay.seconds if outcome.delay else None
                name = "task_retrying" if event is Event.RETRY else "task_snoozed"
                log.info(name, reason=outcome.reason, delay_seconds=delay_seconds, **fields)
            case Event.FAIL:
                log.warning("task_failed", reason=outcome.reason, **fields)
            case Event.RELEASE:
                log.info("task_released", **fields)
            case Event.STOP:
                log.info("task_cancelled", **fields)
            case Event.CUT:
                log.warning("task_expired", **fields)


def _fields(task: ClaimedTask) -> dict[str, object]:
    return {"task_id": task.id, "type": task.type, "queue": task.queue, "attempt": task.attempt}
