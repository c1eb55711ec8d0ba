"""What one transaction of the ticker writes: tasks, entries of the account, and where each schedule stands then."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from aftercommit.core.schedules import (
    MICROSECOND,
    CatchUp,
    Decision,
    DueTick,
    Overlap,
    Pause,
    Policy,
    Run,
    RunKind,
    RunOutcome,
    decide,
    due_ticks,
    look,
)
from aftercommit.db.schedule_runs import Advance, Entry
from aftercommit.db.schedules import ScheduleRow, timing_of
from aftercommit.db.submit import NewTask
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.server.submission.schedule_tasks import Template, TemplateRefused

MOST_TASKS: Final = 200
MOST_BYTES: Final = 16 * 1024 * 1024
"""A round with so many tasks, or bytes of payloads, is full."""

MOST_RUNS: Final = 100
"""Tasks of one schedule in a round."""

ENOUGH_TICKS: Final = 10_000
"""Schedules are looked at until they have so many due ticks together: of a cron line these take a second."""


@dataclass(frozen=True, slots=True)
class DueSchedule:
    """A schedule that is locked, and what there is to decide. ``template``: a text says why there can be no task."""

    row: ScheduleRow
    template: Template | str
    ticks: Sequence[DueTick]

    @classmethod
    def of(cls, row: ScheduleRow, *, queues: KnownQueues) -> Self:
        """Raises ValueError when its times cannot be told here: a zone is missing on this machine, for instance."""
        try:
            template: Template | str = Template.of(row, queues=queues)
        except TemplateRefused as error:
            template = str(error)
        if row["next_tick"] is None:
            return cls(row, template, [])
        ticks = due_ticks(timing_of(row), row["name"], row["next_tick"] - MICROSECOND)
        return cls(row, template, look(ticks, row["now"]))

    def decide(self, *, is_busy: bool, is_buffering: bool) -> Decision:
        """What becomes of its due ticks."""
        template = self.template
        return decide(
            self.ticks,
            _policy_of(self.row),
            now=self.row["now"],
            pause=_pause_of(self.row),
            is_busy=is_busy,
            is_buffering=is_buffering,
            most_runs=MOST_RUNS if isinstance(template, str) else template.at_once(MOST_RUNS, MOST_BYTES),
        )

    @property
    def wants_to_start(self) -> bool:
        """Whether a task would be made now if the latest one had ended."""
        if isinstance(self.template, str):
            return False
        if self.row["buffered_tick"] is not None:
            return True
        runs = self.decide(is_busy=True, is_buffering=False).runs
        return any(run.outcome is RunOutcome.BUFFERED for run in runs)


def look_at(rows: Iterable[ScheduleRow], *, queues: KnownQueues) -> list[DueSchedule]:
    """Those of ``rows`` that one transaction decides: the first ones, until they have ENOUGH_TICKS. Takes seconds where
    many are due."""
    found: list[DueSchedule] = []
    count = 0
    for row in rows:
        found.append(DueSchedule.of(row, queues=queues))
        count += len(found[-1].ticks)
        if count >= ENOUGH_TICKS:
            break
    return found


class TickRound:
    """Collects what is to be written for schedules that are locked."""

    def __init__(self) -> None:
        self._payload_bytes = 0
        self.tasks: list[NewTask] = []
        self.entries: list[Entry] = []
        self.advances: list[Advance] = []

    @property
    def is_full(self) -> bool:
        return len(self.tasks) >= MOST_TASKS or self._payload_bytes >= MOST_BYTES

    def add(self, due: DueSchedule, *, is_busy: bool) -> None:
        """Decide what is due of one schedule. ``is_busy``: its latest task has not ended."""
        row, template = due.row, due.template
        started = None
        if row["buffered_tick"] is not None and not is_busy:
            started = self._entry(row, buffered_run(row), template)
            is_busy = started.task_id is not None
        is_buffering = row["buffered_tick"] is not None and started is None
        decision = due.decide(is_busy=is_busy, is_buffering=is_buffering)
        entries = [self._entry(row, run, template) for run in decision.runs]
        self.entries += entries
        waiting = next((entry.run for entry in entries if entry.run.outcome is RunOutcome.BUFFERED), None)
        if waiting is None and is_buffering:
            waiting = buffered_run(row)
        made = [entry.task_id for entry in (started, *entries) if entry is not None and entry.task_id is not None]
        self.advances.append(
            Advance(
                schedule_id=row["id"],
                next_tick=decision.next_tick,
                buffered_tick=waiting.tick if waiting else None,
                buffered_folded=waiting.folded if waiting else 0,
                latest_task_id=made[-1] if made else None,
                started=started,
            )
        )

    def _entry(self, row: ScheduleRow, run: Run, template: Template | str) -> Entry:
        """The entry for ``run``; its task is added. A text instead of a template says why there can be none."""
        task_id = None
        if run.outcome in (RunOutcome.CREATED, RunOutcome.BUFFERED):
            if isinstance(template, str):
                run = replace(run, outcome=RunOutcome.REFUSED, reason=template)
            elif run.outcome is RunOutcome.CREATED:
                task = template.task(run.tick, kind=RunKind.TICK, folded=run.folded)
                self.tasks.append(task)
                self._payload_bytes += template.payload_bytes
                task_id = task.id
        return Entry(schedule_id=row["id"], kind=RunKind.TICK, run=run, task_id=task_id)


def buffered_run(row: ScheduleRow) -> Run:
    """The tick that waited for the end of the latest task. Its entry knows the rest."""
    tick = row["buffered_tick"]
    return Run(first_tick=tick, tick=tick, due_at=tick, folded=row["buffered_folded"], outcome=RunOutcome.CREATED)


def _policy_of(row: ScheduleRow) -> Policy:
    return Policy(
        catch_up=CatchUp(row["catch_up"]),
        catch_up_max=row["catch_up_max"],
        catch_up_seconds=row["catch_up_seconds"],
        overlap=Overlap(row["overlap"]),
    )


def _pause_of(row: ScheduleRow) -> Pause | None:
    return Pause(row["paused_at"], row["resumed_at"]) if row["resumed_at"] is not None else None
