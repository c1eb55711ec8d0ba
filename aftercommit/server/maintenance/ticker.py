"""Decides the ticks of schedules that are due: their tasks, the account and the next tick are one commit."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog

from aftercommit.core.errors import DatabaseTimeout, DatabaseUnavailable
from aftercommit.core.schedules import Overlap, RunOutcome
from aftercommit.db import cancels, schedule_runs
from aftercommit.db.database import Database, Fetch
from aftercommit.db.schedules import ScheduleRow
from aftercommit.db.submit import Submission, submit
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.runtime.notifier import Notifier
from aftercommit.server.maintenance.tick_round import DueSchedule, TickRound, look_at

log = structlog.get_logger(__name__)

BATCH: Final = 100
"""Schedules in one transaction."""

SHORTEST_SECONDS: Final = 0.01
LOCKED_SECONDS: Final = 0.5
"""After a look at which all that was due was locked elsewhere."""

PASS_OVER_SECONDS: Final = 60.0
"""How long a schedule is left alone whose ticks could not be written."""


class Ticker:
    """Any number may run: each locks the schedules that it decides, and passes over those that are locked elsewhere."""

    def __init__(self, database: Database, notifier: Notifier, *, queues: KnownQueues, interval_seconds: float) -> None:
        self._database = database
        self._notifier = notifier
        self._queues = queues
        self._interval_seconds = interval_seconds
        self.wake: Final = asyncio.Event()
        """Set when a schedule was changed."""
        self._limit = BATCH
        self._locked: Sequence[ScheduleRow] = ()
        self._failed_at: dict[UUID, float] = {}
        self._cancelled = False
        """Whether tasks were cancelled in the batch under way."""

    async def run_once(self) -> float:
        """Decide a batch. Returns 0 after one, else the seconds until a schedule has something to do, at most the
        interval. Raises DatabaseUnavailable, DatabaseTimeout."""
        soonest = await schedule_runs.seconds_until_next(self._database.fetch)
        if soonest is None:
            return self._interval_seconds
        if soonest > 0:
            return min(max(soonest, SHORTEST_SECONDS), self._interval_seconds)
        try:
            decided = await self._decide()
        except (DatabaseUnavailable, DatabaseTimeout):
            if self._locked:  # fewer are quicker
                self._limit = max(1, len(self._locked) // 2)
            raise
        except Exception as error:  # whatever one schedule holds, the others must tick
            if not self._locked:
                raise  # no schedule is to blame
            self._narrow_down(error)
            return 0
        return 0 if decided else min(LOCKED_SECONDS, self._interval_seconds)

    async def _decide(self) -> int:
        """How many schedules were decided."""
        self._locked = ()
        round_ = TickRound()
        async with self._database.transaction() as fetch:
            self._locked = await schedule_runs.lock_due(fetch, limit=self._limit, passing_over=self._passed_over())
            # In a thread: the other services of this process go on meanwhile.
            due = await asyncio.to_thread(look_at, self._locked, queues=self._queues)
            busy = await self._find_busy(fetch, due)
            for each in due:
                round_.add(each, is_busy=each.row["latest_task_id"] in busy)
                if round_.is_full:
                    break
            if round_.tasks:
                await submit(fetch, [Submission(round_.tasks)])
            if round_.advances:
                await schedule_runs.advance(fetch, round_.advances, round_.entries)
        if round_.tasks:
            self._notifier.outbox()
        if self._cancelled:
            self._notifier.cancels()
        self._limit = min(2 * self._limit, BATCH)
        self._report(round_)
        return len(round_.advances)

    async def _find_busy(self, fetch: Fetch, due: Sequence[DueSchedule]) -> set[UUID]:
        """The latest tasks that have not ended, where that matters. Those that their schedule does not want to wait for
        are cancelled."""
        latest = {each.row["latest_task_id"]: each for each in due if _looks_at_latest(each.row)}
        busy = await schedule_runs.unfinished(fetch, latest.keys()) if latest else set()
        unwanted = {
            task_id: f"cancelled by the schedule {each.row['name']}: its next tick is due"
            for task_id, each in latest.items()
            if task_id in busy and each.row["overlap"] == Overlap.CANCEL_RUNNING and each.wants_to_start
        }
        self._cancelled = bool(unwanted)
        return busy - await cancels.cancel_free(fetch, unwanted) if unwanted else busy

    def _narrow_down(self, error: Exception) -> None:
        """The batch could not be written: halve it until the schedule is found, and pass over that for a while."""
        if len(self._locked) > 1:
            self._limit = len(self._locked) // 2
            return
        self._limit = BATCH
        for row in self._locked:
            log.error("schedule_failed", schedule=row["name"], exc_info=error)
            self._failed_at[row["id"]] = time.monotonic()

    def _passed_over(self) -> list[UUID]:
        oldest = time.monotonic() - PASS_OVER_SECONDS
        self._failed_at = {schedule_id: moment for schedule_id, moment in self._failed_at.items() if moment > oldest}
        return list(self._failed_at)

    def _report(self, round_: TickRound) -> None:
        names = {row["id"]: row["name"] for row in self._locked}
        started = (each.started for each in round_.advances if each.started is not None)
        for entry in (*started, *round_.entries):
            if entry.run.outcome is RunOutcome.REFUSED:
                log.warning("tick_refused", schedule=names[entry.schedule_id], reason=entry.run.reason)
        if round_.advances:
            log.debug("ticks_decided", schedules=len(round_.advances), created=len(round_.tasks))


def _looks_at_latest(row: ScheduleRow) -> bool:
    return row["latest_task_id"] is not None and (row["overlap"] != Overlap.ALLOW or row["buffered_tick"] is not None)
