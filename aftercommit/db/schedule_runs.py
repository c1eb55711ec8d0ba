"""Statements on the ticks of schedules: what is due, what becomes of it, and the account."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from aftercommit.core.schedules import DueTick, Run, RunKind, RunOutcome
from aftercommit.db.database import Fetch
from aftercommit.db.schedules import ScheduleRow

LOOK_AGAIN: Final = "interval '1 second'"
"""How often the latest task is looked at while a tick waits for its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A new row of the account."""

    schedule_id: UUID
    kind: RunKind
    run: Run
    task_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """Where a schedule stands after its due ticks were decided. ``latest_task_id``: the task that the last of them
    made, if one did. ``started``: what became of the tick that was buffered before."""

    schedule_id: UUID
    next_tick: DueTick | None
    buffered_tick: datetime | None
    buffered_folded: int
    latest_task_id: UUID | None
    started: Entry | None


_SECONDS_UNTIL_NEXT: Final = """
    SELECT extract(epoch FROM look_at - now())::float8 AS seconds FROM aftercommit.schedules
    WHERE NOT paused AND look_at IS NOT NULL ORDER BY look_at LIMIT 1
"""


async def seconds_until_next(fetch: Fetch) -> float | None:
    """How long until a schedule has something to do, 0 or less when one has, None if none will. Served by
    ``schedules_due``."""
    rows = await fetch(_SECONDS_UNTIL_NEXT)
    return rows[0]["seconds"] if rows else None


_LOCK_DUE: Final = """
    SELECT id, name, cron, zone, interval_seconds, jitter_seconds, task, catch_up, catch_up_max, catch_up_seconds,
        overlap, paused_at, resumed_at, latest_task_id, next_tick, next_due_at, buffered_tick, buffered_folded,
        now() AS now
    FROM aftercommit.schedules
    WHERE NOT paused AND look_at <= now() AND id <> ALL($2::uuid[])
    ORDER BY look_at LIMIT $1 FOR UPDATE SKIP LOCKED
"""


async def lock_due(fetch: Fetch, *, limit: int, passing_over: Collection[UUID]) -> Sequence[ScheduleRow]:
    """Up to ``limit`` schedules that have something to do, locked until the transaction ends; ``now`` is the moment
    that decides. Passes over those that are locked elsewhere. Served by ``schedules_due``."""
    return await fetch(_LOCK_DUE, limit, list(passing_over))


_UNFINISHED: Final = "SELECT id FROM aftercommit.tasks WHERE id = ANY($1::uuid[]) AND finished_at IS NULL"


async def unfinished(fetch: Fetch, task_ids: Collection[UUID]) -> set[UUID]:
    """Which of these tasks have not ended. To be asked with their schedules locked, in a statement of its own: what
    ended while the lock was waited for must be seen. Served by the primary key."""
    return {row["id"] for row in await fetch(_UNFINISHED, list(task_ids))}


_INSERT_RUNS: Final = """
    INSERT INTO aftercommit.schedule_runs
        (schedule_id, kind, first_tick, tick, due_at, folded, outcome, reason, task_id)
    SELECT schedule_id, kind, first_tick, tick, due_at, folded, outcome, reason, task_id
    FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::int[], $7::text[],
        $8::text[], $9::uuid[]
    ) AS new (schedule_id, kind, first_tick, tick, due_at, folded, outcome, reason, task_id)
"""

_ADVANCE: Final = f"""
    WITH run AS (
        {_INSERT_RUNS}
    ), started AS (
        UPDATE aftercommit.schedule_runs r
        SET outcome = new.outcome, reason = new.reason, task_id = new.task_id, decided_at = now()
        FROM unnest($10::uuid[], $11::timestamptz[], $12::text[], $13::text[], $14::uuid[])
            AS new (schedule_id, tick, outcome, reason, task_id)
        WHERE r.schedule_id = new.schedule_id AND r.tick = new.tick AND r.kind = '{RunKind.TICK}'
    )
    UPDATE aftercommit.schedules s
    SET next_tick = new.next_tick, next_due_at = new.next_due_at, buffered_tick = new.buffered_tick,
        buffered_folded = new.buffered_folded, latest_task_id = coalesce(new.latest_task_id, s.latest_task_id),
        look_at = CASE WHEN new.buffered_tick IS NULL THEN new.next_due_at
            ELSE least(new.next_due_at, now() + {LOOK_AGAIN}) END
    FROM unnest($15::uuid[], $16::timestamptz[], $17::timestamptz[], $18::timestamptz[], $19::int[], $20::uuid[])
        AS new (id, next_tick, next_due_at, buffered_tick, buffered_folded, latest_task_id)
    WHERE s.id = new.id
"""


async def advance(fetch: Fetch, advances: Sequence[Advance], entries: Sequence[Entry]) -> None:
    """Move schedules that are locked on, and write the ``entries`` of the account, in one statement.

    Raises StatementRefused for an entry that exists: no tick is decided twice. Served by ``schedules_pkey`` and
    ``schedule_runs_pkey``.
    """
    started = [each.started for each in advances if each.started is not None]
    await fetch(
        _ADVANCE,
        *_entry_columns(entries),
        [entry.schedule_id for entry in started],
        [entry.run.tick for entry in started],
        [entry.run.outcome for entry in started],
        [entry.run.reason for entry in started],
        [entry.task_id for entry in started],
        [each.schedule_id for each in advances],
        [each.next_tick.tick if each.next_tick else None for each in advances],
        [each.next_tick.due_at if each.next_tick else None for each in advances],
        [each.buffered_tick for each in advances],
        [each.buffered_folded for each in advances],
        [each.latest_task_id for each in advances],
    )


async def add(fetch: Fetch, entries: Sequence[Entry]) -> None:
    """Write entries of the account that move no schedule on."""
    await fetch(_INSERT_RUNS, *_entry_columns(entries))


def _entry_columns(entries: Sequence[Entry]) -> tuple[object, ...]:
    return (
        [entry.schedule_id for entry in entries],
        [entry.kind for entry in entries],
        [entry.run.first_tick for entry in entries],
        [entry.run.tick for entry in entries],
        [entry.run.due_at for entry in entries],
        [entry.run.folded for entry in entries],
        [entry.run.outcome for entry in entries],
        [entry.run.reason for entry in entries],
        [entry.task_id for entry in entries],
    )


_DONE: Final = f"""
    SELECT first_tick, tick FROM aftercommit.schedule_runs
    WHERE schedule_id = $1 AND tick >= $2 AND first_tick <= $3 AND kind <> '{RunKind.TRIGGER}'
        AND outcome IN ('{RunOutcome.CREATED}', '{RunOutcome.BUFFERED}')
"""


async def done(fetch: Fetch, schedule_id: UUID, *, first: datetime, last: datetime) -> list[tuple[datetime, datetime]]:
    """First and last ticks of the entries with a task that stand for ticks from ``first`` to ``last``. Served by
    ``schedule_runs_pkey``."""
    rows = await fetch(_DONE, schedule_id, first, last)
    return [(row["first_tick"], row["tick"]) for row in rows]


_YOUNGEST: Final = (datetime(9999, 1, 1, tzinfo=UTC), "")

_LIST: Final = """
    SELECT kind, first_tick, tick, due_at, folded, outcome, reason, task_id, decided_at,
        greatest(extract(epoch FROM decided_at - due_at)::float8, 0) AS late_seconds
    FROM aftercommit.schedule_runs
    WHERE schedule_id = $1 AND (tick, kind) < ($2::timestamptz, $3::text)
    ORDER BY tick DESC, kind DESC LIMIT $4
"""


async def list_page(
    fetch: Fetch, schedule_id: UUID, *, before: tuple[datetime, str] | None, limit: int
) -> Sequence[Any]:
    """Up to ``limit`` entries of the account, the youngest ticks first; ``before`` a tick and its kind. Served by
    ``schedule_runs_pkey``."""
    return await fetch(_LIST, schedule_id, *(before or _YOUNGEST), limit)


_PRUNE: Final = """
    WITH pruned AS (
        DELETE FROM aftercommit.schedule_runs r USING (
            SELECT schedule_id, tick, kind FROM aftercommit.schedule_runs
            WHERE decided_at < now() - $1::float8 * interval '1 second'
            ORDER BY decided_at LIMIT $2 FOR UPDATE SKIP LOCKED
        ) old
        WHERE r.schedule_id = old.schedule_id AND r.tick = old.tick AND r.kind = old.kind
        RETURNING r.tick
    )
    SELECT count(*) AS pruned FROM pruned
"""


async def prune(fetch: Fetch, *, retention_seconds: float, limit: int) -> int:
    """Delete up to ``limit`` entries that are older than that; how many. Passes over locked rows. Served by
    ``schedule_runs_by_age`` and ``schedule_runs_pkey``."""
    (row,) = await fetch(_PRUNE, retention_seconds, limit)
    return int(row["pruned"])
