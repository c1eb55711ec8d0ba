"""The moments that a cron line or an interval names. Pure: what declares schedules and what runs them share it."""

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

LONGEST_CRON: Final = 200
CRON_PATTERN: Final = r"^[ -~]{9,200}$"
SHORTEST_INTERVAL_SECONDS: Final = 1.0
LONGEST_INTERVAL_SECONDS: Final = 366 * 86_400.0

_CRON: Final = re.compile(CRON_PATTERN)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_OF_THE_MACHINE: Final = frozenset({"localtime", "Factory"})


def cron_ticks(line: str, zone: str, after: datetime) -> Iterator[datetime]:
    """The moments after ``after`` that a cron line of five or six fields names in an IANA zone, in UTC, ascending.

    Debian's rules hold where the clock is changed, see ``documents/how-to/schedules.md``. It ends when there is none
    for 50 years, and with the year 9999. Raises ValueError, at the first moment, for a line or a zone that does not
    exist.
    """
    last = after
    with suppress(OverflowError):  # no date has more than four digits of a year
        for local in _simulate(line, after.astimezone(_zone(zone))):
            tick = local.astimezone(UTC)
            # From a start in the hour that comes twice cronsim may go back to the first pass. And where midnight does
            # not exist, it may name it for a line that it does not move: a moment that the zone's clock never shows.
            if tick > last and (_moves(line) or local.replace(tzinfo=None) == _shown(tick, local)):
                last = tick
                yield tick


def interval_ticks(seconds: float, after: datetime) -> Iterator[datetime]:
    """The multiples of ``seconds`` since 1970 (UTC) after ``after``, ascending, until the year 9999 ends: they depend
    on no start."""
    interval = timedelta(seconds=seconds)
    tick = _EPOCH + ((after - _EPOCH) // interval) * interval
    with suppress(OverflowError):
        while True:
            tick += interval
            yield tick


def check_cron(line: str) -> str:
    """``line``. Raises ValueError that says what is wrong, also when it never fires."""
    if not _CRON.fullmatch(line):
        raise ValueError(f"is not a cron line: give five or six fields, {LONGEST_CRON} ASCII characters at most")
    if next(cron_ticks(line, "UTC", datetime.now(UTC)), None) is None:
        raise ValueError("never fires: it names no moment within the next 50 years")
    return line


def check_zone(name: str) -> str:
    """``name``. Raises ValueError when there is no such IANA zone here."""
    if name not in _zones():
        raise ValueError("is not an IANA time zone that is known here: write Europe/Berlin or UTC")
    return name


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones()) - _OF_THE_MACHINE


def _zone(name: str) -> tzinfo:
    # cronsim takes a shorter way for this one.
    return UTC if name == "UTC" else ZoneInfo(check_zone(name))


def _simulate(line: str, start: datetime) -> Iterator[datetime]:
    try:
        yield from CronSim(line, start)
    except CronSimError as error:
        raise ValueError(f"is not a cron line: {error}") from None


def _moves(line: str) -> bool:
    """Whether the line names fixed times, which Debian's rules move where the clock is changed."""
    match line.split():
        case [minute, hour, _day, _month, _weekday]:
            return not (minute.startswith("*") or hour.startswith("*"))
        case _:  # with a field of seconds
            return False


def _shown(tick: datetime, local: datetime) -> datetime:
    """What the zone's clock shows at ``tick``."""
    return tick.astimezone(local.tzinfo).replace(tzinfo=None)
