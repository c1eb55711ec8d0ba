"""Handlers that note when they ran, for tests of shared limits. Roles run in the test's own process, on one clock."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from aftercommit import Context, task

RAN: Final[dict[str, list[tuple[float, float]]]] = defaultdict(list)
"""By queue: when each handler began and ended, on the monotonic clock."""


@task("test.observed")
async def observed(context: Context, seconds: float = 0.05) -> None:
    began = time.monotonic()
    try:
        await asyncio.sleep(seconds)
    finally:
        RAN[context.queue].append((began, time.monotonic()))


def most_at_a_time(queue: str) -> int:
    """How many ran at the same moment at most."""
    moments = sorted([(began, 1) for began, _ in RAN[queue]] + [(ended, -1) for _, ended in RAN[queue]])
    running = most = 0
    for _, change in moments:
        running += change
        most = max(most, running)
    return most


def used(queue: str, limit: int) -> float:
    """Which part of ``limit`` places was in use, from the first start to the last end."""
    ran = RAN[queue]
    span = max(ended for _, ended in ran) - min(began for began, _ in ran)
    return sum(ended - began for began, ended in ran) / span / limit


def most_over(starts: Iterable[float], rate: float) -> float:
    """By how many the starts, in seconds, exceeded ``rate`` in the worst stretch of time."""
    starts = sorted(starts)
    worst = lowest = 0.0
    for number, moment in enumerate(starts):
        # With this start, against the lowest account before it.
        lowest = min(lowest, number - rate * (moment - starts[0]))
        worst = max(worst, number + 1 - rate * (moment - starts[0]) - lowest)
    return worst
