"""Statements on schedules: what there is, and what a client or a worker that declares one changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from aftercommit.core.schedules import DueTick, Policy, RunKind, Timing, first_due
from aftercommit.db.database import Fetch

_COLUMNS: Final = """id, name, cron, zone, interval_seconds, jitter_seconds, task, catch_up, catch_up_max,
    catch_up_seconds, overlap, paused, paused_at, resumed_at, declared_in, declared_by, latest_task_id, next_tick,
    next_due_at, buffered_tick, buffered_folded, created_at, updated_at"""

CHUNK: Final = 50
"""Schedules of a page that are read together: a template may have hundreds of kilobytes."""

ScheduleRow = Any
"""A row with these columns by name; ``task`` is JSON text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSpec:
    """What a schedule is to be. ``task`` is the template as JSON text; ``declared_in`` and ``declared_by`` are None for
    one that the API made."""

    name: str
    timing: Timing
    policy: Policy
    task: str
    declared_in: str | None = None
    declared_by: str | None = None

    @property
    def columns(self) -> tuple[object, ...]:
        return (
            self.timing.cron,
            self.timing.zone,
            self.timing.interval_seconds,
            self.timing.jitter_seconds,
            self.task,
            self.policy.catch_up,
            self.policy.catch_up_max,
            self.policy.catch_up_seconds,
            self.policy.overlap,
            self.declared_in,
            self.declared_by,
        )


def timing_of(row: ScheduleRow) -> Timing:
    return Timing(
        cron=row["cron"],
        zone=row["zone"],
        interval_seconds=row["interval_seconds"],
        jitter_seconds=row["jitter_seconds"],
    )


_NOW: Final = "SELECT clock_timestamp() AS now"


async def moment(fetch: Fetch) -> datetime:
    """The database's clock. Asked for with a schedule locked, it is later than what others found who had it locked."""
    (row,) = await fetch(_NOW)
    now: datetime = row["now"]
    return now


_GET: Final = f"SELECT {_COLUMNS} FROM aftercommit.schedules WHERE name = $1"


async def get(fetch: Fetch, name: str) -> ScheduleRow | None:
    """Served by ``schedules_name_key``."""
    rows = await fetch(_GET, name)
    return rows[0] if rows else None


_LIST: Final = f"SELECT {_COLUMNS} FROM aftercommit.schedules WHERE name > $1 ORDER BY name LIMIT $2"


async def list_page(fetch: Fetch, *, after: str, limit: int, max_bytes: int) -> tuple[list[ScheduleRow], bool]:
    """A page in the order of the names, and whether there is more: up to ``limit`` schedules, with ``max_bytes`` of
    templates, at least one. They are read in chunks, each served by ``schedules_name_key``."""
    page: list[ScheduleRow] = []
    size = 0
    while True:
        chunk = min(CHUNK, limit - len(page))
        rows = await fetch(_LIST, page[-1]["name"] if page else after, chunk + 1)
        for row in rows[:chunk]:
            size += len(row["task"].encode())
            if page and size > max_bytes:
                return page, True
            page.append(row)
        if len(rows) <= chunk or len(page) == limit:
            return page, len(rows) > chunk


_LOCK: Final = f"SELECT {_COLUMNS} FROM aftercommit.schedules WHERE name = $1 FOR UPDATE"


async def lock(fetch: Fetch, name: str) -> ScheduleRow | None:
    """The schedule, locked until the transaction ends. Served by ``schedules_name_key``."""
    rows = await fetch(_LOCK, name)
    return rows[0] if rows else None


_LAST_TICK: Final = f"""
    SELECT tick FROM aftercommit.schedule_runs WHERE schedule_id = $1 AND kind = '{RunKind.TICK}'
    ORDER BY tick DESC LIMIT 1
"""


async def last_tick(fetch: Fetch, schedule_id: UUID) -> datetime | None:
    """The youngest tick in the account. Served by ``schedule_runs_pkey``."""
    rows = await fetch(_LAST_TICK, schedule_id)
    return rows[0]["tick"] if rows else None


async def first_tick(fetch: Fetch, spec: ScheduleSpec, *, schedule_id: UUID | None = None) -> DueTick | None:
    """The first tick of ``spec`` from now on that is not in the account of the schedule, which is locked if there is
    one."""
    after = await moment(fetch)
    if schedule_id is not None and (last := await last_tick(fetch, schedule_id)) is not None:
        after = max(after, last)
    return first_due(spec.timing, spec.name, after)


_CREATE: Final = f"""
    INSERT INTO aftercommit.schedules (id, name, cron, zone, interval_seconds, jitter_seconds, task, catch_up,
        catch_up_max, catch_up_seconds, overlap, declared_in, declared_by, next_tick, next_due_at, look_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15)
    ON CONFLICT (name) DO NOTHING
    RETURNING {_COLUMNS}
"""


async def create(fetch: Fetch, schedule_id: UUID, spec: ScheduleSpec, first: DueTick | None) -> ScheduleRow | None:
    """A new schedule whose first tick is ``first``; None when its name is taken. Waits for another transaction that
    makes one of that name."""
    rows = await fetch(_CREATE, schedule_id, spec.name, *spec.columns, *_moments(first))
    return rows[0] if rows else None


# What is buffered starts as before: it is looked at at once.
_REPLACE: Final = f"""
    UPDATE aftercommit.schedules
    SET cron = $2, zone = $3, interval_seconds = $4, jitter_seconds = $5, task = $6, catch_up = $7, catch_up_max = $8,
        catch_up_seconds = $9, overlap = $10, declared_in = $11, declared_by = $12, next_tick = $13, next_due_at = $14,
        look_at = CASE WHEN buffered_tick IS NULL THEN $14 ELSE now() END, updated_at = now()
    WHERE id = $1
    RETURNING {_COLUMNS}
"""


async def replace(fetch: Fetch, schedule_id: UUID, spec: ScheduleSpec, first: DueTick | None) -> ScheduleRow:
    """Give a schedule that is locked another definition; it ticks next at ``first``. Its pause, account and buffered
    tick stay. Served by the primary key."""
    (row,) = await fetch(_REPLACE, schedule_id, *spec.columns, *_moments(first))
    return row


def _moments(first: DueTick | None) -> tuple[datetime | None, datetime | None]:
    return (first.tick, first.due_at) if first is not None else (None, None)


# A pause that begins before the ticks of another were decided is one with it: none of those is caught up.
_PAUSE: Final = f"""
    UPDATE aftercommit.schedules
    SET paused = true, paused_at = CASE WHEN paused OR next_tick < resumed_at THEN paused_at ELSE now() END,
        updated_at = CASE WHEN paused THEN updated_at ELSE now() END
    WHERE name = $1 RETURNING {_COLUMNS}
"""

# Its ticks of the pause are skipped when maintenance looks, which is at once.
_RESUME: Final = f"""
    UPDATE aftercommit.schedules
    SET paused = false, resumed_at = CASE WHEN paused THEN now() ELSE resumed_at END,
        updated_at = CASE WHEN paused THEN now() ELSE updated_at END,
        look_at = CASE WHEN paused AND (next_tick IS NOT NULL OR buffered_tick IS NOT NULL) THEN now() ELSE look_at END
    WHERE name = $1 RETURNING {_COLUMNS}
"""


async def pause(fetch: Fetch, name: str) -> ScheduleRow | None:
    """Stop a schedule's ticks. Served by ``schedules_name_key``."""
    rows = await fetch(_PAUSE, name)
    return rows[0] if rows else None


async def resume(fetch: Fetch, name: str) -> ScheduleRow | None:
    """Let a paused schedule tick again from now on. Served by ``schedules_name_key``."""
    rows = await fetch(_RESUME, name)
    return rows[0] if rows else None


_DELETE: Final = "DELETE FROM aftercommit.schedules WHERE name = $1 RETURNING id"


async def delete(fetch: Fetch, name: str) -> bool:
    """Whether there was one. Nobody finds its account any more, which goes with its age. Served by
    ``schedules_name_key``."""
    return bool(await fetch(_DELETE, name))


_NOTE_DECLARER: Final = "UPDATE aftercommit.schedules SET declared_in = $2, declared_by = $3 WHERE id = $1"


async def note_declarer(fetch: Fetch, schedule_id: UUID, spec: ScheduleSpec) -> None:
    """Say which module and worker declared a schedule last, as it is. Served by the primary key."""
    await fetch(_NOTE_DECLARER, schedule_id, spec.declared_in, spec.declared_by)


_DECLARED: Final = (
    "SELECT name, declared_in FROM aftercommit.schedules WHERE declared_in = ANY($1::text[]) ORDER BY name"
)


async def declared_in(fetch: Fetch, modules: Sequence[str]) -> dict[str, str]:
    """Names of the schedules that these modules declared at some time, with the module. Reads all schedules."""
    return {row["name"]: row["declared_in"] for row in await fetch(_DECLARED, list(modules))}
