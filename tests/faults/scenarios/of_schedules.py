"""Schedules tick each second while maintenance dies: no tick is missed, none is doubled, and the account adds up."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

import aiohttp
import asyncpg

from tests.faults import faults
from tests.faults.faults import Trial
from tests.faults.kinds import Kind
from tests.faults.scenarios.registry import KILLS, rounds, scenario

SECOND: Final = timedelta(seconds=1)
CATCH_UP_SECONDS: Final = 60.0

SCHEDULES: Final[dict[str, dict[str, Any]]] = {
    "cron": {"cron": "* * * * * *", "zone": "Europe/Berlin", "catch_up": "all", "task": {"type": Kind.QUICK}},
    "interval": {"interval_seconds": 1, "jitter_seconds": 0.5, "overlap": "skip", "task": {"type": Kind.QUICK}},
    "buffering": {
        "interval_seconds": 1,
        "overlap": "buffer_one",
        "task": {"type": Kind.SLEEP, "payload": {"seconds": 1.5}},
    },
}
"""Each ticks every second."""

_BEHIND: Final = "SELECT count(*) FROM aftercommit.schedules WHERE next_tick < now() - interval '2 seconds'"
_RUNS: Final = """
    SELECT r.first_tick, r.tick, r.folded, r.outcome, r.task_id, r.decided_at - r.due_at AS late
    FROM aftercommit.schedule_runs r JOIN aftercommit.schedules s ON s.id = r.schedule_id
    WHERE s.name = $1 ORDER BY r.tick
"""
_MADE: Final = """
    SELECT id, (schedule ->> 'tick')::timestamptz AS tick, (schedule ->> 'folded')::int AS folded
    FROM aftercommit.tasks WHERE schedule ->> 'name' = $1
"""


async def tick_meanwhile(trial: Trial, strike: Callable[[], Awaitable[object]]) -> None:
    """Let the schedules tick until ``strike`` is over and the load is in."""
    first = {name: await _call(trial, "POST", "", {"name": name, **body}) for name, body in SCHEDULES.items()}
    await strike()
    await trial.load.done.wait()
    for role in trial.installation.fleet:
        role.crash = None
    await _until_caught_up(trial)
    for name in SCHEDULES:
        await _call(trial, "POST", f"/{name}/pause")
    trial.found["first ticks"] = {name: body["next_tick"] for name, body in first.items()}


async def account_adds_up(trial: Trial) -> None:
    """Each second from the first tick on stands in the account once, and each of its tasks exists once. The tasks are
    acknowledged by that: the account of the load counts them too."""
    first_ticks = trial.found.pop("first ticks")
    assert isinstance(first_ticks, dict)
    connection = await trial.installation.connect()
    try:
        for name in SCHEDULES:
            await _check(trial, connection, name, first=datetime.fromisoformat(first_ticks[name]))
    finally:
        await connection.close()


@scenario("schedules-tick", verify=account_adds_up)
async def schedules_tick(trial: Trial) -> None:
    async def kill(_turn: int) -> None:
        await faults.kill(trial, trial.role("maintenance"), down_seconds=trial.rng.choice((0, 1, 3)))

    await tick_meanwhile(trial, lambda: rounds(trial, KILLS, kill))


async def _check(trial: Trial, connection: asyncpg.Connection, name: str, *, first: datetime) -> None:
    runs, made = await connection.fetch(_RUNS, name), await connection.fetch(_MADE, name)
    expected = first
    for run in runs:
        if run["first_tick"] != expected or run["tick"] != expected + run["folded"] * SECOND:
            trial.flaws.append(f"{name}: {dict(run)} stands where {expected} should begin")
        expected = run["tick"] + SECOND
    next_tick = await connection.fetchval("SELECT next_tick FROM aftercommit.schedules WHERE name = $1", name)
    if next_tick != expected:
        trial.flaws.append(f"{name}: goes on at {next_tick} instead of {expected}")
    told = {(run["task_id"], run["tick"], run["folded"]) for run in runs if run["task_id"] is not None}
    if told != {tuple(task) for task in made} or len(told) != len(made):
        trial.flaws.append(f"{name}: {len(made)} tasks, of which the account tells {len(told)}")
    outcomes = {outcome: sum(run["folded"] + 1 for run in runs if run["outcome"] == outcome) for outcome in _of(runs)}
    latest = max((run["late"] for run in runs), default=timedelta()).total_seconds()
    trial.found[f"ticks of {name}"] = f"{outcomes}, {len(made)} tasks, at most {latest:.1f} s late"
    kind = SCHEDULES[name]["task"]["type"]
    trial.load.submitted.update({task["id"]: kind for task in made})


def _of(runs: list[asyncpg.Record]) -> list[str]:
    return sorted({run["outcome"] for run in runs})


async def _until_caught_up(trial: Trial) -> None:
    connection = await trial.installation.connect()
    try:
        async with asyncio.timeout(CATCH_UP_SECONDS):
            while await connection.fetchval(_BEHIND):
                await asyncio.sleep(0.1)
    finally:
        await connection.close()


async def _call(trial: Trial, method: str, path: str, body: object = None) -> Any:
    """Asks again while the installation recovers from a fault."""
    url = f"{trial.installation.urls[0]}/v1/schedules{path}"
    async with asyncio.timeout(CATCH_UP_SECONDS), aiohttp.ClientSession() as session:
        while True:
            with suppress(aiohttp.ClientError, OSError):
                async with session.request(method, url, json=body) as response:
                    if response.status < 300:
                        return await response.json()
                    assert response.status >= 500, await response.text()
            await asyncio.sleep(0.2)
