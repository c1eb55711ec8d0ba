"""How long a task waits before its retries, as a handler says it: ``@task(…, retry=Delays(5, 30))``."""

from dataclasses import dataclass
from typing import Final

from aftercommit.errors import LONGEST_AFTER_SECONDS

MOST_DELAYS: Final = 50
LARGEST_FACTOR: Final = 100.0

DEFAULT_FACTOR: Final = 2.0
DEFAULT_CAP_SECONDS: Final = 3_600.0
DEFAULT_JITTER: Final = 0.1


@dataclass(frozen=True, slots=True, init=False)
class Delays:
    """The nth retry waits the nth of ``seconds``; the last of them repeats.

    One to 50 numbers of seconds, from 0 to a year. Raises ValueError.
    """

    seconds: tuple[float, ...]

    def __init__(self, *seconds: float) -> None:
        if not 1 <= len(seconds) <= MOST_DELAYS:
            raise ValueError(f"Delays has {len(seconds)} delays: give 1 to {MOST_DELAYS}")
        for each in seconds:
            _check("a delay", each, 0, LONGEST_AFTER_SECONDS)
        object.__setattr__(self, "seconds", seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """The nth retry waits ``initial_seconds`` × ``factor`` ** (n - 1), at most ``cap_seconds``, less a random part.

    ``jitter`` is how large that part may be, from 0 (none) to 1 (all of the wait). Seconds are above 0, up to a year;
    ``factor`` is from 1 to 100. Raises ValueError.
    """

    initial_seconds: float
    factor: float = DEFAULT_FACTOR
    cap_seconds: float = DEFAULT_CAP_SECONDS
    jitter: float = DEFAULT_JITTER

    def __post_init__(self) -> None:
        for name in ("initial_seconds", "cap_seconds"):
            seconds = getattr(self, name)
            _check(name, seconds, 0, LONGEST_AFTER_SECONDS)
            if seconds == 0:
                raise ValueError(f"{name} is 0: give seconds above 0")
        _check("factor", self.factor, 1, LARGEST_FACTOR)
        _check("jitter", self.jitter, 0, 1)


def _check(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(f"{name} is {value!r}: give a number from {least:g} to {most:g}")
