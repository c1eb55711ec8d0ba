"""Queues are made, limited, paused, purged and deleted under load, while processes die; and limits hold meanwhile."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import UUID

import aiohttp
import asyncpg

from tests.faults import faults
from tests.faults.faults import Trial
from tests.faults.kinds import Kind
from tests.faults.load import Client, Planned, Request, plan_of, plan_task
from tests.faults.scenarios.registry import KILLS, rounds, scenario

LANE: Final = "lane"
FEW: Final = "few"
MOST: Final = 5
LANE_SHARE: Final = 0.3
COUNTED_SHARE: Final = 0.5

PASSING: Final = 6
"""Queues that come and go."""

PASSING_TASKS: Final = 100
LOOK_SECONDS: Final = 0.01
ASK_SECONDS: Final = 60.0
GONE_SECONDS: Final = 90.0

_PURGED: Final = "SELECT id FROM aftercommit.tasks WHERE status = 'cancelled' AND cancel_reason LIKE 'purged %'"
_LOCKS: Final = """
    SELECT classid::int AS pid, count(*) AS running FROM pg_locks
    WHERE locktype = 'advisory' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    GROUP BY classid
"""
_GRANTED: Final = "SELECT coalesce(sum(granted), 0) FROM aftercommit.queue_grants WHERE queue = $1"


async def ask(trial: Trial, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """What an operator asks of any API, again until it answers."""
    deadline = asyncio.get_running_loop().time() + ASK_SECONDS
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
        while True:
            url = trial.rng.choice(trial.installation.urls) + path
            try:
                async with session.request(method, url, json=body) as response:
                    if response.status < 500:
                        return response.status, await response.json()
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"{method} {path}: no answer")
            await asyncio.sleep(0.1)


def plan_lanes(rng: Random) -> Planned:
    planned = plan_task(rng)
    return Planned(planned.kind, planned.body | {"queue": LANE}) if rng.random() < LANE_SHARE else planned


async def steer_lane(trial: Trial) -> None:
    """Limits, pauses and purges of a queue that is in use all the time."""
    turns: list[Mapping[str, Any]] = [{"max_running": 3}, {"rate_per_second": 100}, {"ordering": "weighted"}, {}]
    for number, options in enumerate(turns):
        await trial.load.until((number + trial.rng.uniform(0.2, 0.8)) / len(turns))
        await ask(trial, "PUT", f"/v1/queues/{LANE}", dict(options))
        await ask(trial, "POST", f"/v1/queues/{LANE}/pause", {"by": "the load"})
        await asyncio.sleep(trial.rng.uniform(0.5, 2))
        if number % 2:
            await ask(trial, "POST", f"/v1/queues/{LANE}/purge", {"priority": "low"})
        await ask(trial, "POST", f"/v1/queues/{LANE}/resume")
        trial.struck.append(f"{LANE}: {options}, paused, resumed")


async def pass_queues(trial: Trial) -> None:
    """Queues that are made, used, and deleted with tasks in them, one after the other."""
    for number in range(PASSING):
        await trial.load.until((number + trial.rng.uniform(0.1, 0.5)) / PASSING)
        name = f"passing-{number}"
        await ask(trial, "PUT", f"/v1/queues/{name}", {"max_running": 2} if number % 2 else {})
        if number % 3 == 0:
            await ask(trial, "POST", f"/v1/queues/{name}/pause")
        planned = [plan_task(trial.rng) for _ in range(PASSING_TASKS)]
        request = Request(tuple(Planned(one.kind, one.body | {"queue": name}) for one in planned), single=False)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
            ids = await Client(session, trial.installation.urls).submit(request)
        trial.load.submitted.update(zip(ids, (one.kind for one in planned), strict=True))
        await asyncio.sleep(trial.rng.uniform(0, 0.5))
        status, answer = await ask(trial, "DELETE", f"/v1/queues/{name}?move_to={LANE if number % 2 else 'tasks'}")
        if status != 202:
            trial.flaws.append(f"{name} could not be deleted: {answer}")
        trial.struck.append(f"{name} deleted")


async def _all_passed(trial: Trial) -> None:
    """Tasks that were purged are cancelled; every queue that was deleted is gone."""
    connection = await trial.installation.connect()
    try:
        purged: list[UUID] = [row["id"] for row in await connection.fetch(_PURGED)]
    finally:
        await connection.close()
    trial.cancels.update(dict.fromkeys(purged, 200))
    trial.found["tasks purged"] = len(purged)
    async with asyncio.timeout(GONE_SECONDS):
        for number in range(PASSING):
            while (await ask(trial, "GET", f"/v1/queues/passing-{number}"))[0] != 404:
                await asyncio.sleep(0.2)


@scenario(
    "queues-come-and-go",
    settings={"QUEUES": f"tasks,{LANE}", "WORKER_QUEUES": "*"},
    plan=lambda tasks, rng: plan_of(tasks, rng, plan_lanes),
    verify=_all_passed,
)
async def queues_come_and_go(trial: Trial) -> None:
    """Whatever is done to queues, and whoever dies over it, each task ends once."""
    async with asyncio.TaskGroup() as group:
        group.create_task(steer_lane(trial))
        group.create_task(pass_queues(trial))
        group.create_task(
            rounds(trial, KILLS, lambda _: faults.kill(trial, trial.role("worker", "maintenance", "api")))
        )


def plan_counted(rng: Random) -> Planned:
    if rng.random() >= COUNTED_SHARE:
        return plan_task(rng)
    body = {"type": Kind.COUNTED, "queue": FEW, "payload": {"seconds": 0.05}}
    return Planned(Kind.COUNTED, body)


def _is_stopped(pid: int) -> bool:
    """Whether a process is stopped (SIGSTOP), or gone: nothing of it runs then."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TZ"
    except OSError:
        return True


async def watch(trial: Trial, connection: asyncpg.Connection) -> None:
    """Count what runs, by locks that the handlers hold and lose with their process; and what is granted."""
    most = looks = used = 0
    while not trial.load.done.is_set():
        rows = await connection.fetch(_LOCKS)
        running = sum(row["running"] for row in rows if not _is_stopped(row["pid"]))
        granted = await connection.fetchval(_GRANTED, FEW)
        if running > MOST or granted > MOST:
            trial.flaws.append(f"{running} run and {granted} are granted, where {MOST} may")
        most, looks, used = max(most, running), looks + 1, used + running
        await asyncio.sleep(LOOK_SECONDS)
    trial.found["most that ran at a time"] = most
    trial.found["of the limit used on average"] = f"{used / max(looks, 1) / MOST:.2f}"


async def trouble(trial: Trial, turn: int) -> None:
    """A worker is killed, stopped for less than its lease, or restarted in order."""
    worker = trial.role("worker")
    match turn % 3:
        case 0:
            await faults.kill(trial, worker, down_seconds=trial.rng.uniform(0, 2))
        case 1:
            await faults.pause(trial, worker, trial.rng.uniform(0.5, 1.5))
        case _:
            trial.struck.append(f"{worker.name} restarted")
            await trial.installation.fleet.restart(worker)


@scenario(
    "limits-while-workers-die",
    settings={"QUEUES": f"tasks,{FEW}", "WORKER_QUEUES": "*"},
    plan=lambda tasks, rng: plan_of(tasks, rng, plan_counted),
)
async def limits_while_workers_die(trial: Trial) -> None:
    """At most five of a queue run at a time, on all workers together, whichever of them die, stand still or come."""
    await ask(trial, "PUT", f"/v1/queues/{FEW}", {"max_running": MOST})
    await asyncio.sleep(1)  # until every worker has heard of it
    connection = await trial.installation.connect()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(watch(trial, connection))
            group.create_task(rounds(trial, KILLS, lambda turn: trouble(trial, turn)))
    finally:
        await connection.close()
