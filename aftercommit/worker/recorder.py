"""Outcomes gather, for a moment and while the last batch is being written; then they are written in one transaction."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog

from aftercommit.core import failures
from aftercommit.core.outcomes import Outcome
from aftercommit.core.states import Event
from aftercommit.db import record
from aftercommit.db.claims import ClaimedTask
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.outages import StatementRefused
from aftercommit.runtime.notifier import OutboxNotifier
from aftercommit.runtime.poll import first_of, poll

log = structlog.get_logger(__name__)

LARGEST_BATCH: Final = 1_000
GATHER_SECONDS: Final = 0.005
"""Outcomes wait so long for those of other attempts under way. A slot is free before its outcome is written, so this
holds nothing up, and a statement for few costs nearly as much as one for many."""

ENOUGH: Final = 100
"""So many do not wait."""

IDLE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt and its outcome. ``recorded``: the handler's own transaction has it already."""

    task: ClaimedTask
    outcome: Outcome
    recorded: bool = False


class Recorder:
    """Keeps each outcome until it is in or fenced out; a worker that stops waits for that with ``drain``."""

    def __init__(
        self, connection: DatabaseConnection, notifier: OutboxNotifier, *, on_recorded: Callable[[ClaimedTask], None]
    ) -> None:
        self._connection = connection
        self._notifier = notifier
        self._on_recorded = on_recorded
        self._waiting: list[Ended] = []
        self._apart = 0  # so many of them are written one by one
        self._open_claims: dict[UUID, int] = {}
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self.totals: Counter[str] = Counter()

    def expect(self, claim_id: UUID, tasks: int) -> None:
        """So many outcomes of this claim will come; its row goes with the last."""
        if tasks:
            self._open_claims[claim_id] = tasks

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
        if self._waiting:
            log.error("outcomes_abandoned", count=len(self._waiting))

    async def tick(self) -> float:
        """Write what waits. What raises, DatabaseUnavailable or another, keeps it for the next tick."""
        if len(self._waiting) < ENOUGH and self._more_may_come() and not self._apart:
            await asyncio.sleep(GATHER_SECONDS)
        batch = self._waiting[: 1 if self._apart else LARGEST_BATCH]
        try:
            if batch:
                await self._write(batch)
        except StatementRefused as error:
            self._refused(batch, error)
            return 0
        del self._waiting[: len(batch)]
        self._apart = max(self._apart - 1, 0)
        if not self._waiting:
            self._empty.set()
            return IDLE_SECONDS
        return 0

    def _more_may_come(self) -> bool:
        return bool(self._waiting) and sum(self._open_claims.values()) > len(self._waiting)

    async def _write(self, batch: Sequence[Ended]) -> None:
        wanted = [ended.outcome for ended in batch if not ended.recorded]
        taken = await record.record(self._connection.fetch, wanted, closed=self._closed_by(batch))
        for ended in batch:
            self._report(
                ended.task, ended.outcome, taken=ended.recorded or (ended.task.id, ended.task.attempt) in taken
            )
            self._settle(ended.task)
        if any(ended.outcome.ending is not Event.SUCCEED for ended in batch):
            self._notifier.send()

    def _closed_by(self, batch: Sequence[Ended]) -> list[UUID]:
        """The claims of which nothing is left after ``batch``."""
        done = Counter(ended.task.claim_id for ended in batch)
        return [claim_id for claim_id, count in done.items() if self._open_claims.get(claim_id, 0) <= count]

    def _settle(self, task: ClaimedTask) -> None:
        left = self._open_claims.get(task.claim_id, 0) - 1
        if left > 0:
            self._open_claims[task.claim_id] = left
        else:
            self._open_claims.pop(task.claim_id, None)
        self._on_recorded(task)

    def _refused(self, batch: Sequence[Ended], error: StatementRefused) -> None:
        """One outcome that Postgres refuses must not hold up the others: it becomes a failure that can be stored."""
        if len(batch) > 1:
            self._apart = len(batch)
            return
        task = batch[0].task
        if batch[0].outcome.reason == _UNSTORABLE:
            raise error
        text = failures.dump("Unstorable", f"Postgres refused the outcome: {error}")
        failure = Outcome(
            task_id=task.id,
            attempt=task.attempt,
            worker=task.worker,
            ending=Event.FAIL,
            error=text,
            reason=_UNSTORABLE,
        )
        self._waiting[0] = Ended(task, failure)

    def _report(self, task: ClaimedTask, outcome: Outcome, *, taken: bool) -> None:
        self.totals[outcome.ending if taken else "refused"] += 1
        fields = {"task_id": task.id, "type": task.type, "queue": task.queue, "attempt": task.attempt}
        if not taken:
            log.warning("outcome_refused", ending=outcome.ending, **fields)
            return
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


_UNSTORABLE: Final = "the outcome could not be stored"
