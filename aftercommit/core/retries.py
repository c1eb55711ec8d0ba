"""How long the nth retry waits, and who keeps the time: a retry queue of the broker, or the scheduler. Pure."""

import json
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass

from aftercommit.retry_delays import Backoff, Delays

RetryDelays = Delays | Backoff


@dataclass(frozen=True, slots=True)
class Delay:
    """A wait before the next attempt. ``by_broker``: a retry queue of exactly this TTL exists."""

    seconds: float
    by_broker: bool


def plan_delay(
    *, retry: int, delays: RetryDelays, queue_delays: Collection[float], draw: Callable[[], float] = random.random
) -> Delay:
    """The wait before the ``retry``-th retry (1 is the first).

    Where ``queue_delays``, those with a retry queue, has exactly that delay the queue keeps it; else the scheduler
    does. ``draw`` gives the random number, from 0 to 1, of a backoff's jitter.
    """
    match delays:
        case Delays(seconds=choices):
            seconds = choices[min(retry, len(choices)) - 1]
        case Backoff():
            # Less, never more: the cap holds, and nothing that the jitter spreads gathers at it.
            seconds = round(_grown(delays, retry) * (1 - delays.jitter * draw()), 3)
    return given_delay(seconds, queue_delays=queue_delays)


def given_delay(seconds: float, *, queue_delays: Collection[float]) -> Delay:
    """The wait that a handler asked for."""
    return Delay(seconds, by_broker=seconds in queue_delays)


def read_delays(text: str) -> RetryDelays:
    """The delays that a task's ``retry`` says, JSON as a submit takes it.

    Raises ValueError for what this release does not know.
    """
    try:
        given = json.loads(text)
        if isinstance(given, dict) and len(given) == 1:
            if isinstance(seconds := given.get("delays_seconds"), list):
                return Delays(*seconds)
            if isinstance(options := given.get("backoff"), dict):
                return Backoff(**options)
    except (TypeError, RecursionError) as error:  # an option that is unknown, or missing
        raise ValueError(str(error)) from None
    raise ValueError("it has neither delays_seconds nor a backoff alone")


def _grown(backoff: Backoff, retry: int) -> float:
    try:
        grown = backoff.initial_seconds * backoff.factor ** (retry - 1)
    except OverflowError:
        return backoff.cap_seconds
    return min(grown, backoff.cap_seconds)
