"""What one transaction of the ticker writes: tasks, entries of the account, and where each schedule stands then."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from aftercommit.core.schedules import (
    MICROSECOND,
    CatchUp,
    Decision,
    Overlap,
    Policy,
    Run,
    RunKind,
    RunOutcome,
    decide,
    due_ticks,
)
from aftercommit.db.schedule_runs import Advance, Entry
from aftercommit.db.schedules import ScheduleRow, timing_of
from aftercommit.db.submit import NewTask
from aftercommit.server.submission.schedule_tasks import Template, TemplateRefused

MOST_TASKS: Final = 200
MOST_BYTES: Final = 16 * 1024 * 1024
"""A round with so many tasks, or bytes of payloads, is full."""

MOST_RUNS: Final = 100
"""Tasks of one schedule in a round."""


class TickRound:
    """Collects what is to be written for schedules that are locked."""

    def __init__(self, *, queues: Sequence[str]) -> None:
        self._queues = queues
        self._payload_bytes = 0
        self.tasks: list[NewTask] = []
        self.entries: list[Entry] = []
        self.advances: list[Advance] = []

    @property
    def is_full(self) -> bool:
        return len(self.tasks) >= MOST_TASKS or self._payload_bytes >= MOST_BYTES

    def add(self, row: ScheduleRow, *, is_busy: bool) -> None:
        """Decide what is due of one schedule. ``is_busy``: its latest task has not ended."""
        try:
            template: Template | str = Template.of(row, queues=self._queues)
        except TemplateRefused as error:
            template = str(error)
        started = None
        if row["buffered_tick"] is not None and not is_busy:
            started = self._entry(row, buffered_run(row), template)
            is_busy = started.task_id is not None
        is_buffering = row["buffered_tick"] is not None and started is None
        most_runs = MOST_RUNS if isinstance(template, str) else template.at_once(MOST_RUNS, MOST_BYTES)
        decision = decision_on(row, is_busy=is_busy, is_buffering=is_buffering, most_runs=most_runs)
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


def decision_on(row: ScheduleRow, *, is_busy: bool, is_buffering: bool, most_runs: int = MOST_RUNS) -> Decision:
    """What becomes of the due ticks of a schedule. Raises ValueError when its times cannot be told here: a zone is
    missing on this machine, for instance."""
    if row["next_tick"] is None:
        return Decision(runs=[], next_tick=None)
    return decide(
        due_ticks(timing_of(row), row["name"], row["next_tick"] - MICROSECOND),
        _policy_of(row),
        now=row["now"],
        resumed_at=row["resumed_at"],
        is_busy=is_busy,
        is_buffering=is_buffering,
        most_runs=most_runs,
    )


def wants_to_start(row: ScheduleRow) -> bool:
    """Whether a tick would start now if the latest task had ended."""
    if row["buffered_tick"] is not None:
        return True
    runs = decision_on(row, is_busy=True, is_buffering=False).runs
    return any(run.outcome is RunOutcome.BUFFERED for run in runs)


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
