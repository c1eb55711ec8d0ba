"""Tasks of a schedule beside its due ticks: one that is triggered now, and those of past ticks that had none."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice, takewhile
from typing import Final

from aftercommit.core.schedules import MICROSECOND, MOST_TICKS, Run, RunKind, RunOutcome, Timing, to_backfill
from aftercommit.db import schedule_runs, schedules
from aftercommit.db.database import Fetch
from aftercommit.db.schedule_runs import Entry
from aftercommit.db.schedules import ScheduleRow, timing_of
from aftercommit.db.submit import NewTask, Submission, submit
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.server.submission.schedule_tasks import Template

MOST_BACKFILLED: Final = 1_000
MOST_BYTES: Final = 16 * 1024 * 1024
"""Tasks, and bytes of their payloads, that one backfill makes."""

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def trigger(fetch: Fetch, row: ScheduleRow, *, queues: KnownQueues) -> NewTask:
    """Make a task now, in the transaction that has the schedule locked. Raises TemplateRefused."""
    template = Template.of(row, queues=queues)
    return (await _make(fetch, row, template, [await schedules.moment(fetch)], RunKind.TRIGGER))[0]


async def backfill(
    fetch: Fetch, row: ScheduleRow, *, since: datetime, before: datetime, queues: KnownQueues
) -> tuple[list[NewTask], datetime | None]:
    """Make a task for each past tick from ``since`` on and before ``before`` that has none, in the transaction that has
    the schedule locked: up to MOST_BACKFILLED. The tasks, and from when on to go on, None if that was all.

    Raises TemplateRefused.
    """
    template = Template.of(row, queues=queues)
    end = min(before, await _decided_until(fetch, row))
    after = max(since, EARLIEST) - MICROSECOND
    ticks = await asyncio.to_thread(_between, timing_of(row), after, end)
    if not ticks:
        return [], None
    done = await schedule_runs.done(fetch, row["id"], first=ticks[0], last=ticks[-1])
    missing = list(to_backfill(ticks, done))
    chosen = missing[: template.at_once(MOST_BACKFILLED, MOST_BYTES)]
    made = await _make(fetch, row, template, chosen, RunKind.BACKFILL) if chosen else []
    if len(missing) > len(chosen):
        return made, missing[len(chosen)]
    return made, ticks[-1] + MICROSECOND if len(ticks) == MOST_TICKS else None


def _between(timing: Timing, after: datetime, end: datetime) -> list[datetime]:
    """The ticks after ``after`` and before ``end``, up to MOST_TICKS: of a cron line they take a second."""
    return list(islice(takewhile(lambda tick: tick < end, timing.after(after)), MOST_TICKS))


async def _decided_until(fetch: Fetch, row: ScheduleRow) -> datetime:
    """What is due and not decided yet is left to maintenance, except in a pause, whose ticks that will skip."""
    now = await schedules.moment(fetch)
    will_skip = row["paused"] and row["next_tick"] is not None and row["next_due_at"] >= row["paused_at"]
    return now if will_skip or row["next_tick"] is None else min(now, row["next_tick"])


async def _make(
    fetch: Fetch, row: ScheduleRow, template: Template, ticks: Sequence[datetime], kind: RunKind
) -> list[NewTask]:
    made = [template.task(tick, kind=kind) for tick in ticks]
    await submit(fetch, [Submission(made)])
    entries = [
        Entry(
            schedule_id=row["id"],
            kind=kind,
            run=Run(first_tick=tick, tick=tick, due_at=tick, folded=0, outcome=RunOutcome.CREATED),
            task_id=task.id,
        )
        for tick, task in zip(ticks, made, strict=True)
    ]
    await schedule_runs.add(fetch, entries)
    return made
