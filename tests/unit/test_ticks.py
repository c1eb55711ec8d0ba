"""Cron lines against cronsim itself and against an oracle that walks minute by minute; intervals; what is refused."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from aftercommit.ticks import check_cron, check_zone, cron_ticks, interval_ticks

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
YEARS = {"Europe/Berlin": range(2017, 2027), "America/Sao_Paulo": range(2009, 2019)}
"""Ten years each in which the clock is changed twice: at 2 and 3 in the night, and at midnight."""

LINES = (
    "* * * * *",
    "*/15 * * * *",
    "0 * * * *",
    "30 */2 * * *",
    "* 2 * * *",
    "*/20 0 * * *",
    "*/20 0 * * 0",
    "*/10 23 * * 6",
    "0 0 * * *",
    "30 0 * * *",
    "0 2 * * *",
    "30 2 * * *",
    "15,45 2 * * *",
    "0 3 * * *",
    "59 2,3 * * *",
    "30 1-3 * * *",
    "30 23 * * *",
    "0 7 * * 1-5",
    "30 2 * * 0",
    "5 0 15-21 2,10 *",
    "0 0 15 * 1",
)


@cache
def changes(zone: str) -> tuple[datetime, ...]:
    """The moments, in UTC, at which the zone's clock is changed."""
    clock, found = ZoneInfo(zone), []
    for year in YEARS[zone]:
        hours = (datetime(year, 1, 1, tzinfo=UTC) + HOUR * n for n in range(366 * 24))
        found += [
            hour
            for hour in hours
            if hour.year == year and hour.astimezone(clock).utcoffset() != (hour - MINUTE).astimezone(clock).utcoffset()
        ]
    return tuple(found)


@cache
def around(zone: str, change: datetime) -> tuple[tuple[datetime, datetime], ...]:
    """The minutes from half a day before a change to a day after, and what the clock shows at each."""
    clock = ZoneInfo(zone)
    minutes = (change - DAY / 2 + MINUTE * n for n in range(36 * 60))
    return tuple((minute, minute.astimezone(clock).replace(tzinfo=None)) for minute in minutes)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_ticks_end_with_the_last_date(zone: str) -> None:
    late = datetime(9999, 12, 31, 23, 58, 30, tzinfo=UTC)
    assert len(list(cron_ticks("* * * * *", zone, late))) <= 1
    assert list(interval_ticks(60, late)) == [datetime(9999, 12, 31, 23, 59, tzinfo=UTC)]


def numbers(field: str, smallest: int, largest: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        ends = (smallest, largest) if span == "*" else (int(first), int(last or first))
        found |= set(range(ends[0], ends[1] + 1, int(step or 1)))
    return found


class Oracle:
    """A line, read without cronsim."""

    def __init__(self, line: str) -> None:
        minute, hour, day, month, weekday = line.split()
        self.moves = "*" not in (minute[0], hour[0])
        self._minutes, self._hours = numbers(minute, 0, 59), numbers(hour, 0, 23)
        self._days, self._months = numbers(day, 1, 31), numbers(month, 1, 12)
        self._weekdays = {number % 7 for number in numbers(weekday, 0, 7)}
        self._both = "*" in (day[0], weekday[0])

    def names(self, shown: datetime) -> bool:
        days = (shown.day in self._days, shown.isoweekday() % 7 in self._weekdays)
        return (
            shown.minute in self._minutes
            and shown.hour in self._hours
            and shown.month in self._months
            and (all(days) if self._both else any(days))
        )

    def ticks(self, minutes: tuple[tuple[datetime, datetime], ...]) -> list[datetime]:
        """Lines with a wildcard follow the clock. Fixed times happen once each: at the first minute at which the clock
        shows them, or, where it jumps over them, at the first minute after the jump."""
        if not self.moves:
            return [minute for minute, shown in minutes if self.names(shown)]
        found, reached = [], minutes[0][1] - MINUTE
        for minute, shown in minutes:
            news = [reached + MINUTE * n for n in range(1, int((shown - reached) / MINUTE) + 1)]
            if any(self.names(new) for new in news):
                found.append(minute)
            reached = max(reached, shown)
        return found


def ticks_around(line: str, zone: str, minutes: tuple[tuple[datetime, datetime], ...]) -> list[datetime]:
    return list(until(minutes[-1][0], cron_ticks(line, zone, minutes[0][0] - MINUTE)))


def until(last: datetime, ticks: Iterator[datetime]) -> Iterator[datetime]:
    return takewhile(lambda tick: tick <= last, ticks)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("zone", YEARS)
def test_every_change_of_the_clock_in_ten_years_is_as_an_oracle_has_it(zone: str, line: str) -> None:
    assert len(changes(zone)) == 20
    for change in changes(zone):
        minutes = around(zone, change)
        assert ticks_around(line, zone, minutes) == Oracle(line).ticks(minutes), change


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("zone", YEARS)
def test_every_change_of_the_clock_in_ten_years_is_as_cronsim_has_it(zone: str, line: str) -> None:
    """But for midnights that do not exist: cronsim names them for lines with a wildcard, whose day begins then."""
    clock = ZoneInfo(zone)
    for change in changes(zone):
        minutes = around(zone, change)
        simulated = (each.astimezone(UTC) for each in CronSim(line, (minutes[0][0] - MINUTE).astimezone(clock)))
        expected = list(until(minutes[-1][0], simulated))
        found = ticks_around(line, zone, minutes)
        assert found == expected or (set(expected) - set(found) == {change} and not Oracle(line).moves), change


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("zone", YEARS)
def test_ticks_are_the_same_from_wherever_one_begins(zone: str, line: str) -> None:
    for change in changes(zone)[:4]:
        whole = ticks_around(line, zone, around(zone, change))
        for start in (change + MINUTE * n for n in range(-150, 151, 10)):
            later = [tick for tick in whole if tick > start][:200]
            assert list(islice(cron_ticks(line, zone, start), len(later))) == later, start


@pytest.mark.parametrize("line", ["* * * * * *", "*/7 30 2 * * *", "0 30 2 * * *"])
def test_line_with_seconds_follows_the_clock_alone(line: str) -> None:
    """A time that does not exist is left out, one that comes twice ticks twice."""
    berlin = ZoneInfo("Europe/Berlin")
    fields = line.split()
    for change in changes("Europe/Berlin")[:2]:
        seconds = (change - 3 * HOUR + SECOND * n for n in range(6 * 3600))
        expected = [
            second
            for second in seconds
            if all(
                number in numbers(field, 0, 59)
                for field, number in zip(fields, shown_of(second.astimezone(berlin)), strict=False)
            )
        ]
        ticks = cron_ticks(line, "Europe/Berlin", change - 3 * HOUR - SECOND)
        assert list(until(change + 3 * HOUR - SECOND, ticks)) == expected


def shown_of(moment: datetime) -> Iterator[int]:
    yield from (moment.second, moment.minute, moment.hour)


@pytest.mark.parametrize(
    ("line", "flaw"),
    [
        ("* * * *", "is not a cron line"),
        ("61 * * * *", "Bad minute"),
        ("0 7 * * MON-FRI-SUN", "Bad day-of-week"),
        ("0 0 30 2 *", "Bad day-of-month"),
        ("* * */20 * 1L", "never fires"),
        ("0 7 * * *\n", "is not a cron line"),
        ("0 7 * * ²L", "is not a cron line"),
        ("1," * 200 + "1 * * * *", "200"),
    ],
)
def test_line_that_cannot_be_or_never_fires_is_refused(line: str, flaw: str) -> None:
    with pytest.raises(ValueError, match=flaw):
        check_cron(line)


@given(st.text(alphabet="0123456789*,-/#L WMON", max_size=30))
@settings(max_examples=300, deadline=None)
def test_no_line_is_refused_in_another_way_than_with_a_sentence(line: str) -> None:
    with suppress(ValueError):
        assert check_cron(line) == line


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "Europe", "localtime"])
def test_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="IANA"):
        check_zone(name)


@given(
    st.floats(min_value=1, max_value=10**6),
    st.floats(1.6e9, 2.2e9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
)
def test_interval_ticks_at_its_multiples_from_wherever_one_begins(seconds: float, start: datetime) -> None:
    first, second, third = islice(interval_ticks(seconds, start), 3)
    assert start < first <= start + timedelta(seconds=seconds)
    assert third - second == second - first == timedelta(seconds=seconds)
    assert (first - datetime(1970, 1, 1, tzinfo=UTC)) % timedelta(seconds=seconds) == timedelta()
    assert next(interval_ticks(seconds, first)) == second
