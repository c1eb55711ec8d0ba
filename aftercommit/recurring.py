"""How a handler says that its task recurs: ``@task("report.send", schedule=Cron("0 7 * * *", zone="Europe/Berlin"))``.

A worker that starts brings the schedule into the database, where maintenance runs it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from aftercommit import ticks

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}$"
LONGEST_JITTER_SECONDS: Final = 86_400.0
MOST_CAUGHT_UP: Final = 1_000
LONGEST_CATCH_UP_SECONDS: Final = 366 * 86_400.0
CATCH_UPS: Final = ("skip", "one", "all")
OVERLAPS: Final = ("allow", "skip", "buffer_one", "cancel_running")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrence:
    """What ``Cron`` and ``Every`` have in common.

    ``name`` is the schedule's, by default the task type. ``payload``, ``queue`` (by default the first of QUEUES) and
    ``priority`` are those of its tasks. ``jitter_seconds`` delays each tick by less than that, always by the same.
    ``catch_up`` says what becomes of ticks that were missed: nothing (``skip``), one task for all of them (``one``), or
    a task each (``all``, up to ``catch_up_max``), unless they are older than ``catch_up_seconds``. ``overlap`` says
    what a tick does while the task of the one before has not ended: ``allow``, ``skip``, ``buffer_one`` or
    ``cancel_running``.

    Raises ValueError for what cannot be.
    """

    name: str | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)
    queue: str | None = None
    priority: Literal["high", "medium", "low"] = "medium"
    jitter_seconds: float = 0.0
    catch_up: Literal["skip", "one", "all"] = "one"
    catch_up_max: int = 100
    catch_up_seconds: float = 86_400.0
    overlap: Literal["allow", "skip", "buffer_one", "cancel_running"] = "allow"

    def __post_init__(self) -> None:
        if self.name is not None and not re.fullmatch(NAME_PATTERN, self.name):
            raise ValueError(f"{self.name!r} is not a schedule's name: up to 200 of letters, digits and _ . : -")
        _check_one_of("priority", self.priority, ("high", "medium", "low"))
        _check_one_of("catch_up", self.catch_up, CATCH_UPS)
        _check_one_of("overlap", self.overlap, OVERLAPS)
        _check_range("jitter_seconds", self.jitter_seconds, 0, LONGEST_JITTER_SECONDS)
        _check_range("catch_up_max", self.catch_up_max, 1, MOST_CAUGHT_UP)
        _check_range("catch_up_seconds", self.catch_up_seconds, 0, LONGEST_CATCH_UP_SECONDS)
        if type(self.catch_up_max) is not int:
            raise ValueError(f"catch_up_max is {self.catch_up_max!r}: give a whole number")
        _check_payload(self.payload)

    @property
    def cron_line(self) -> str | None:
        return None

    @property
    def zone_name(self) -> str | None:
        return None

    @property
    def interval_seconds(self) -> float | None:
        return None


@dataclass(frozen=True, slots=True)
class Cron(Recurrence):
    """At the times of a cron ``line`` (five fields, or six with the seconds first) in the IANA ``zone``."""

    line: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        for what, check, value in (("line", ticks.check_cron, self.line), ("zone", ticks.check_zone, self.zone)):
            try:
                check(value)
            except ValueError as error:
                raise ValueError(f"{what} {value!r} {error}") from None
        Recurrence.__post_init__(self)

    @property
    def cron_line(self) -> str | None:
        return self.line

    @property
    def zone_name(self) -> str | None:
        return self.zone


@dataclass(frozen=True, slots=True, kw_only=True)
class Every(Recurrence):
    """Every so many ``seconds`` (1 to a year), counted from 1970-01-01T00:00Z."""

    seconds: float

    def __post_init__(self) -> None:
        _check_range("seconds", self.seconds, ticks.SHORTEST_INTERVAL_SECONDS, ticks.LONGEST_INTERVAL_SECONDS)
        Recurrence.__post_init__(self)

    @property
    def interval_seconds(self) -> float | None:
        return self.seconds


def _check_one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(
            f"{what} is {value!r}: give {' or '.join(filter(None, (', '.join(allowed[:-1]), allowed[-1])))}"
        )


def _check_range(what: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"{what} is {value!r}: give {least:.0f} to {most:.0f}")


def _check_payload(payload: Mapping[str, Any]) -> None:
    """Raises ValueError for what Postgres cannot keep as JSON."""
    try:
        text = json.dumps(dict(payload), allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"payload is not JSON: {error}") from None
    if "\\u0000" in text.replace("\\\\", ""):
        raise ValueError("payload holds a NUL character, which Postgres cannot store")
