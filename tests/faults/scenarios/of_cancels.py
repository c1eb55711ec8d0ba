"""Tasks are cancelled, and reach their deadlines, while processes die."""

import asyncio
from collections import Counter
from random import Random
from typing import Final
from uuid import UUID

import aiohttp

from tests.faults import faults
from tests.faults.faults import Trial
from tests.faults.kinds import Kind
from tests.faults.load import Client, Planned, Unanswered, plan_of, plan_task
from tests.faults.scenarios.registry import KILLS, rounds, scenario

CANCELLED_SHARE: Final = 0.3
LOOK_SECONDS: Final = 0.02

_STATUSES: Final = "SELECT status, count(*) FROM aftercommit.tasks WHERE type = $1 GROUP BY status"


async def cancel_some(trial: Trial) -> None:
    """Cancel a share of the tasks soon after their submit, for as long as the load runs: some wait, some run, some are
    about to be recorded, and some have ended."""
    asked = 0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session, asyncio.TaskGroup() as group:
        client = Client(session, trial.installation.urls)
        while not trial.load.done.is_set():
            submitted = list(trial.load.submitted)
            for task_id in submitted[asked:]:
                if trial.rng.random() < CANCELLED_SHARE:
                    group.create_task(_cancel_one(trial, client, task_id, after=trial.rng.choice((0, 0.05, 0.2, 1))))
            asked = len(submitted)
            await asyncio.sleep(LOOK_SECONDS)


async def _cancel_one(trial: Trial, client: Client, task_id: UUID, *, after: float) -> None:
    await asyncio.sleep(after * trial.rng.uniform(0.5, 1.5))
    try:
        trial.cancels[task_id] = await client.cancel(task_id)
    except Unanswered as error:
        trial.flaws.append(str(error))


async def _each_answer_came(trial: Trial) -> None:
    answers = Counter(trial.cancels.values())
    trial.found["cancels answered"] = ", ".join(f"{status}: {count}" for status, count in sorted(answers.items()))
    if missing := {200, 202, 409} - answers.keys():
        trial.flaws.append(f"no cancel was answered with {missing}: the load was too small")


@scenario("cancels-while-workers-die", verify=_each_answer_came)
async def cancels_while_workers_die(trial: Trial) -> None:
    """A cancel that was taken holds, whoever dies; one that was refused left no mark."""
    async with asyncio.TaskGroup() as group:
        group.create_task(cancel_some(trial))
        group.create_task(rounds(trial, KILLS, lambda _: faults.kill(trial, trial.role("worker", "maintenance"))))


def plan_deadline(rng: Random) -> Planned:
    """A task that may expire while it waits or runs."""
    body = {"type": Kind.DEADLINE, "payload": {"seconds": rng.uniform(0, 0.3)}}
    return Planned(Kind.DEADLINE, body | {"expires_in_seconds": rng.choice((0.3, 3)) * rng.uniform(0.2, 2)})


def _some_with_deadline(rng: Random) -> Planned:
    return plan_deadline(rng) if rng.random() < 0.3 else plan_task(rng)


async def _some_expired(trial: Trial) -> None:
    connection = await trial.installation.connect()
    try:
        rows = await connection.fetch(_STATUSES, Kind.DEADLINE)
    finally:
        await connection.close()
    statuses = {row["status"]: row["count"] for row in rows}
    trial.found["tasks with a deadline"] = ", ".join(f"{status}: {count}" for status, count in statuses.items())
    if missing := Kind.DEADLINE.endings - statuses.keys():
        trial.flaws.append(f"no task with a deadline is {missing}: the load was too small")


@scenario(
    "deadlines-while-processes-die",
    plan=lambda tasks, rng: plan_of(tasks, rng, _some_with_deadline),
    verify=_some_expired,
)
async def deadlines_while_processes_die(trial: Trial) -> None:
    """What expires writes nothing with its completion, and nothing with a deadline is left waiting."""
    await rounds(trial, KILLS, lambda _: faults.kill(trial, trial.role("worker", "maintenance")))
