"""What a schedule does with the ticks that are due: which become tasks, which are skipped and why. Pure.

A *tick* is a moment that the cron line or the interval names. It is due then, or later by its jitter.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice, takewhile
from operator import attrgetter
from typing import Final

from aftercommit.ticks import cron_ticks, interval_ticks

ON_TIME: Final = timedelta(seconds=10)
"""A tick that is decided later than that was missed: ``catch_up`` says what becomes of it."""

MOST_TICKS: Final = 10_000
"""Ticks of one schedule that are looked at together."""

MICROSECOND: Final = timedelta(microseconds=1)
"""The smallest difference between two moments in Postgres."""


class CatchUp(StrEnum):
    SKIP = "skip"
    ONE = "one"
    ALL = "all"


class Overlap(StrEnum):
    ALLOW = "allow"
    SKIP = "skip"
    BUFFER_ONE = "buffer_one"
    CANCEL_RUNNING = "cancel_running"


class RunKind(StrEnum):
    TICK = "tick"
    TRIGGER = "trigger"
    BACKFILL = "backfill"


class RunOutcome(StrEnum):
    """``buffered`` waits for the end of the latest task; ``refused``: its task could not be submitted."""

    CREATED = "created"
    BUFFERED = "buffered"
    SKIPPED = "skipped"
    REFUSED = "refused"


class SkipReason(StrEnum):
    PAUSED = "paused"
    MISSED = "missed"
    OVERLAP = "overlap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a schedule ticks: a cron line in a zone, or an interval."""

    cron: str | None
    zone: str | None
    interval_seconds: float | None
    jitter_seconds: float = 0.0

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The ticks after ``moment``, in UTC, as far as there are dates. Raises ValueError, at the first, when the line
        or zone is gone."""
        if self.cron is not None:
            return cron_ticks(self.cron, self.zone or "UTC", moment)
        assert self.interval_seconds is not None
        return interval_ticks(self.interval_seconds, moment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What becomes of ticks that were missed, and of those that come while the latest task has not ended."""

    catch_up: CatchUp
    catch_up_max: int
    catch_up_seconds: float
    overlap: Overlap


@dataclass(frozen=True, slots=True)
class DueTick:
    tick: datetime
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Pause:
    """From ``since`` on and before ``until``."""

    since: datetime
    until: datetime

    def has(self, each: DueTick) -> bool:
        """Whether a tick, or the wait for its jitter, fell into the pause."""
        return self.since <= each.due_at and each.tick < self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """An entry of the account. It stands for ``folded`` earlier ticks too, from ``first_tick`` on."""

    first_tick: datetime
    tick: datetime
    due_at: datetime
    folded: int
    outcome: RunOutcome
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """``runs`` are in the order of their ticks. ``next_tick``: the first that was not decided; None: there is none."""

    runs: Sequence[Run]
    next_tick: DueTick | None


def due_ticks(timing: Timing, name: str, after: datetime) -> Iterator[DueTick]:
    """The ticks after ``after`` with their due times. A jitter never reaches the tick that follows, and depends on the
    schedule's name and the tick alone: whoever computes it finds the same."""
    ticks = timing.after(after)
    tick = next(ticks, None)
    while tick is not None:
        following = next(ticks, None)
        seconds = timing.jitter_seconds
        if following is not None:
            seconds = min(seconds, (following - tick).total_seconds())
        yield DueTick(tick, tick + timedelta(seconds=seconds * _share(name, tick)) if seconds else tick)
        tick = following


def first_due(timing: Timing, name: str, after: datetime) -> DueTick | None:
    """The first tick after ``after``. Raises ValueError when the line or zone is gone."""
    return next(due_ticks(timing, name, after), None)


def _share(name: str, tick: datetime) -> float:
    """From 0 to below 1."""
    digest = hashlib.sha256(f"{name}\n{tick.astimezone(UTC).isoformat()}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def look(ticks: Iterator[DueTick], now: datetime) -> list[DueTick]:
    """What there is to decide of ``ticks``, which begins with the first that was not decided: those that are due, up to
    MOST_TICKS, and the one that follows, if there is one."""
    found: list[DueTick] = []
    for each in islice(ticks, MOST_TICKS + 1):
        found.append(each)
        if each.due_at > now:
            break
    return found


def decide(
    ticks: Sequence[DueTick],
    policy: Policy,
    *,
    now: datetime,
    pause: Pause | None,
    is_busy: bool,
    is_buffering: bool,
    most_runs: int,
) -> Decision:
    """Decide the ticks that are due, in their order: at most MOST_TICKS of them, and so that at most ``most_runs``
    become tasks.

    ``ticks`` are those that ``look`` found. ``pause`` is the last one. ``is_busy``: the latest task has not ended;
    ``is_buffering``: a tick waits for that already.
    """
    due = [each for each in ticks[:MOST_TICKS] if each.due_at <= now]
    is_full = len(ticks) > MOST_TICKS and ticks[-1].due_at <= now
    runs = _catch_up(due, policy, now=now, pause=pause, is_full=is_full)
    decided = list(_overlap(runs, policy.overlap, is_busy=is_busy, is_buffering=is_buffering, most_runs=most_runs))
    undecided = (each for each in ticks if not decided or each.tick > decided[-1].tick)
    return Decision(runs=list(_merged(decided)), next_tick=next(undecided, None))


def _catch_up(
    due: Sequence[DueTick], policy: Policy, *, now: datetime, pause: Pause | None, is_full: bool
) -> list[Run]:
    """What each tick would become if nothing overlapped. ``is_full``: more are due, so that of those which may yet be
    caught up nothing is decided."""
    paused = [each for each in due if pause is not None and pause.has(each)]
    rest = [each for each in due if pause is None or not pause.has(each)]
    missed = [each for each in rest if now - each.due_at > ON_TIME]
    fresh = rest[len(missed) :]
    window = timedelta(seconds=policy.catch_up_seconds)
    caught = [each for each in missed if now - each.due_at <= window]
    match policy.catch_up:
        case CatchUp.SKIP:
            caught = []
        case CatchUp.ONE if is_full:
            caught = []
        case CatchUp.ALL:
            caught = caught[-policy.catch_up_max :]
        case _:
            pass
    lost = missed[: len(missed) - len(caught)]
    skipped = [
        *(_skipped(each, SkipReason.PAUSED) for each in paused),
        *(_skipped(each, SkipReason.MISSED) for each in lost),
    ]
    created: list[Sequence[DueTick]] = [[each] for each in (*caught, *fresh)]
    if policy.catch_up is CatchUp.ONE and caught:
        created = [*_around(paused, [*caught, *fresh[:1]]), *([each] for each in fresh[1:])]
    runs = sorted([*skipped, *map(_created, created)], key=attrgetter("tick"))
    if is_full:
        return list(takewhile(lambda run: run.outcome is RunOutcome.SKIPPED, runs)) or runs
    return runs


def _around(paused: Sequence[DueTick], ticks: Sequence[DueTick]) -> list[Sequence[DueTick]]:
    """``ticks`` before and after those of a pause, as far as there are any: no entry stands for ticks of both sides."""
    before = [each for each in ticks if paused and each.tick < paused[0].tick]
    return [side for side in (before, ticks[len(before) :]) if side]


def _overlap(
    runs: Iterable[Run], overlap: Overlap, *, is_busy: bool, is_buffering: bool, most_runs: int
) -> Iterator[Run]:
    created = 0
    for run in runs:
        if run.outcome is RunOutcome.SKIPPED:
            yield run
        elif overlap is Overlap.ALLOW or not is_busy:
            if created == most_runs:
                return
            created += 1
            is_busy = True
            yield run
        elif overlap is Overlap.SKIP or is_buffering:
            yield replace(run, outcome=RunOutcome.SKIPPED, reason=SkipReason.OVERLAP)
        else:
            is_buffering = True
            yield replace(run, outcome=RunOutcome.BUFFERED)


def _merged(runs: Iterable[Run]) -> Iterator[Run]:
    """Neighbours that were skipped for one reason are one entry."""
    last: Run | None = None
    for run in runs:
        if last is None:
            last = run
        elif run.outcome is last.outcome is RunOutcome.SKIPPED and run.reason == last.reason:
            last = replace(run, first_tick=last.first_tick, folded=last.folded + run.folded + 1)
        else:
            yield last
            last = run
    if last is not None:
        yield last


def _skipped(each: DueTick, reason: SkipReason) -> Run:
    return replace(_created([each]), outcome=RunOutcome.SKIPPED, reason=reason)


def _created(ticks: Sequence[DueTick]) -> Run:
    """One task for all of ``ticks``; it stands for the last one."""
    return Run(
        first_tick=ticks[0].tick,
        tick=ticks[-1].tick,
        due_at=ticks[-1].due_at,
        folded=len(ticks) - 1,
        outcome=RunOutcome.CREATED,
    )


def to_backfill(ticks: Iterable[datetime], done: Iterable[tuple[datetime, datetime]]) -> Iterator[datetime]:
    """Those of ``ticks`` (ascending) that no entry stands for: ``done`` are the first and last ticks of entries."""
    entries = iter(sorted(done))
    entry = next(entries, None)
    reached = datetime.min.replace(tzinfo=UTC)
    for tick in ticks:
        while entry is not None and entry[0] <= tick:
            reached = max(reached, entry[1])
            entry = next(entries, None)
        if tick > reached:
            yield tick
