"""The loop that all periodic work runs in."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from aftercommit.runtime.failures_in_a_row import FailuresInARow

FIRST_BACKOFF_SECONDS: Final = 0.1
LONGEST_BACKOFF_SECONDS: Final = 5.0


async def poll(
    name: str,
    tick: Callable[[], Awaitable[float]],
    *,
    stopping: asyncio.Event,
    wake: asyncio.Event | None = None,
) -> None:
    """Call ``tick`` until ``stopping``. It returns the seconds until the next call, 0 for at once.

    ``wake`` cuts a wait short; it is also set when ``stopping`` is. A tick that raises is logged and called again after
    a growing, jittered wait, so no error path spins. This is the wide catch at a role's edge.
    """
    wake = wake or asyncio.Event()
    # One task for the loop's life: a busy loop waits thousands of times a second.
    stop = asyncio.ensure_future(stopping.wait())
    stop.add_done_callback(lambda _: wake.set())
    failures = FailuresInARow(name)
    try:
        while not stopping.is_set():
            wake.clear()
            try:
                delay = await tick()
            except Exception as error:
                failures.log(error)
                await first_of(stopping, timeout_seconds=backoff_seconds(failures.count))
                continue
            failures.end()
            if delay > 0 and not stopping.is_set():
                await _sleep(wake, delay * random.uniform(0.9, 1.1))
    finally:
        stop.cancel()


def backoff_seconds(failures: int) -> float:
    """The wait after so many failures in a row: full jitter below a bound that doubles."""
    bound = min(FIRST_BACKOFF_SECONDS * 2 ** min(failures, 10), LONGEST_BACKOFF_SECONDS)
    return random.uniform(FIRST_BACKOFF_SECONDS / 2, bound)


async def first_of(*events: asyncio.Event, timeout_seconds: float | None = None) -> None:
    """Return when the first of ``events`` is set, or after ``timeout_seconds``."""
    if any(event.is_set() for event in events):
        return
    if not events:
        await asyncio.sleep(timeout_seconds or 0)
        return
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def _sleep(wake: asyncio.Event, seconds: float) -> None:
    # Not asyncio.timeout, which costs a busy loop as much as the rest of its wait.
    timer = asyncio.get_running_loop().call_later(seconds, wake.set)
    try:
        await wake.wait()
    finally:
        timer.cancel()
