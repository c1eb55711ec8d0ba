"""What a scenario watches while its faults last: others go on, the API answers."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp

from tests.faults.faults import Trial

LOOK_SECONDS: Final = 0.2
STANDSTILL_SECONDS: Final = 20.0
READY_SECONDS: Final = 1.0
ASK_SECONDS: Final = 0.1
REPLACED_SECONDS: Final = 10.0
"""Within so long what a broker lost is sent again where its marker is gone."""


async def until_others_are_final(trial: Trial, those: str, *arguments: Any) -> None:
    """Return when all tasks have ended but those of which the condition ``those`` is true, the load being in.

    That none of the others ended for STANDSTILL_SECONDS is a flaw.
    """
    waiting = f"SELECT count(*) FROM aftercommit.tasks WHERE finished_at IS NULL AND NOT ({those})"
    await trial.load.done.wait()
    connection = await trial.installation.connect()
    try:
        started = moved = time.monotonic()
        left = fewest = await connection.fetchval(waiting, *arguments)
        while left and time.monotonic() - moved < STANDSTILL_SECONDS:
            await asyncio.sleep(LOOK_SECONDS)
            left = await connection.fetchval(waiting, *arguments)
            if left < fewest:
                fewest, moved = left, time.monotonic()
        trial.found["others ended"] = f"{time.monotonic() - started:.1f} s after the load"
        if left:
            trial.flaws.append(f"{left} other tasks did not go on while the fault lasted")
    finally:
        await connection.close()


async def stay_ready(trial: Trial) -> None:
    """Ask each API whether it is ready until the load is in: anything but 200 within READY_SECONDS is a flaw."""
    slowest, asked = 0.0, 0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(READY_SECONDS * 20)) as session:
        while not trial.load.done.is_set():
            for url in trial.installation.urls:
                seconds, status = await _ask(session, f"{url}/readyz")
                slowest, asked = max(slowest, seconds), asked + 1
                if status != 200 or seconds >= READY_SECONDS:
                    trial.flaws.append(f"/readyz answered {status} after {seconds:.2f} s")
            await asyncio.sleep(ASK_SECONDS)
    trial.found["slowest /readyz"] = f"{slowest:.3f} s of {asked}"


_IN_THE_BROKER: Final = """
    SELECT count(*) FROM aftercommit.tasks t
    WHERE status IN ('queued', 'retrying') AND enqueued
        AND NOT EXISTS (SELECT FROM aftercommit.outbox_rows o WHERE t.id = ANY (o.task_ids))
"""
_REPLACED: Final = """
    SELECT m.lost_before > $1::timestamptz AND m.resent_at IS NOT NULL
        AND NOT EXISTS (SELECT FROM aftercommit.outbox_rows WHERE created_at <= m.resent_at)
    FROM aftercommit.broker_marker m
"""


async def until_replaced(trial: Trial, strike: Callable[[], Awaitable[None]]) -> None:
    """Have the broker lose what it holds by ``strike``, which ends when it is back. That what waited is not published
    again within REPLACED_SECONDS of that is a flaw."""
    connection = await trial.installation.connect()
    try:
        struck_at = await connection.fetchval("SELECT clock_timestamp()")
        held = await connection.fetchval(_IN_THE_BROKER)
        await strike()
        started = time.monotonic()
        while not await connection.fetchval(_REPLACED, struck_at) and time.monotonic() - started < STANDSTILL_SECONDS:
            await asyncio.sleep(LOOK_SECONDS)
        seconds = time.monotonic() - started
    finally:
        await connection.close()
    again = trial.found.get("what the broker held was sent again")
    shown = f"{held} tasks, {seconds:.1f} s after it was back"
    trial.found["what the broker held was sent again"] = f"{again}; {shown}" if again else shown
    if seconds >= REPLACED_SECONDS:
        trial.flaws.append(f"what the broker held was sent again {seconds:.1f} s after it was back")
    if not held:
        trial.flaws.append("no task waited in the broker when it was struck")


async def _ask(session: aiohttp.ClientSession, url: str) -> tuple[float, int | str]:
    started = time.monotonic()
    try:
        async with session.get(url) as response:
            await response.read()
            return time.monotonic() - started, response.status
    except (aiohttp.ClientError, OSError) as error:
        return time.monotonic() - started, type(error).__name__
