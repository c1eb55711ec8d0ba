"""How long the nth retry waits, and who keeps the time: a retry queue of the broker, or the scheduler. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delay:
    """A wait before the next attempt. ``by_broker``: a retry queue of exactly this TTL exists."""

    seconds: float
    by_broker: bool


def plan_delay(*, retry: int, delays_seconds: tuple[int, ...], after_seconds: float | None = None) -> Delay:
    """The wait before the ``retry``-th retry (1 is the first).

    The last of ``delays_seconds`` repeats. ``after_seconds`` is what the handler asked for: it wins, and where no
    retry queue has that delay the scheduler sends the task out.
    """
    if after_seconds is None:
        return Delay(delays_seconds[min(retry, len(delays_seconds)) - 1], by_broker=True)
    return Delay(after_seconds, by_broker=after_seconds in delays_seconds)
