"""RabbitMQ dies, forgets, refuses, is silent."""

import asyncio
from dataclasses import replace
from random import Random
from typing import Final

from tests.faults import faults
from tests.faults.faults import Trial
from tests.faults.installation import QUEUES
from tests.faults.kinds import Kind
from tests.faults.load import Planned, plan_of, plan_task
from tests.faults.probes import stay_ready, until_others_are_final, until_replaced
from tests.faults.processes import RoleProcess
from tests.faults.scenarios.registry import ROUNDS, rounds, scenario


@scenario("broker-killed")
async def broker_killed(trial: Trial) -> None:
    await rounds(trial, 2, lambda _: faults.kill_broker(trial, down_seconds=trial.rng.uniform(0, 3)))


@scenario("broker-wiped", broker_forgets=True)
async def broker_wiped(trial: Trial) -> None:
    await rounds(trial, 2, lambda _: faults.kill_broker(trial, down_seconds=trial.rng.uniform(0, 3), wipe=True))


A_BACKLOG: Final = {"WORKER_CONCURRENCY": "3", "WORKER_PREFETCH": "3", "RECONCILE_AFTER_SECONDS": "45"}
"""More tasks than the workers run, so that some wait in RabbitMQ, and a reconciler that comes too late for them."""


@scenario("broker-forgets", settings=A_BACKLOG | {"RABBITMQ_QUEUE_TYPE": "classic"})
async def broker_forgets(trial: Trial) -> None:
    """Classic queues and transient messages: a restart takes what waits, be it orderly or not."""
    strikes = (
        lambda: faults.restart_broker(trial),
        lambda: faults.kill_broker(trial, down_seconds=trial.rng.uniform(0, 3)),
    )
    await rounds(trial, len(strikes), lambda turn: until_replaced(trial, strikes[turn]))


@scenario("broker-wiped-under-a-backlog", settings=A_BACKLOG, broker_forgets=True)
async def broker_wiped_under_a_backlog(trial: Trial) -> None:
    async def strike() -> None:
        await faults.kill_broker(trial, down_seconds=trial.rng.uniform(0, 3), wipe=True)

    await rounds(trial, 2, lambda _: until_replaced(trial, strike))


@scenario("broker-alarm")
async def broker_alarm(trial: Trial) -> None:
    await rounds(trial, 2, lambda _: faults.raise_alarm(trial, "memory", trial.rng.uniform(4, 8)))


@scenario("broker-disk-full")
async def broker_disk_full(trial: Trial) -> None:
    """What RabbitMQ makes of a disk with less room than its limit: publishers are blocked."""
    await rounds(trial, 2, lambda _: faults.raise_alarm(trial, "disk", trial.rng.uniform(4, 8)))


@scenario("queue-deleted")
async def queue_deleted(trial: Trial) -> None:
    await rounds(trial, ROUNDS, lambda _: faults.delete_queue(trial, trial.rng.choice(QUEUES)))


@scenario("queues-purged")
async def queues_purged(trial: Trial) -> None:
    await rounds(trial, ROUNDS, lambda _: faults.purge(trial))


@scenario("queues-full")
async def queues_full(trial: Trial) -> None:
    await rounds(trial, 2, lambda _: faults.fill_queues(trial, seconds=5, messages=trial.rng.randint(1, 20)))


@scenario("broker-silent")
async def broker_silent(trial: Trial) -> None:
    """It accepts connections and says nothing, to everybody: submits go on, and the API stays ready all the time."""

    async def strike(_: int) -> None:
        await faults.silence(trial, server="rabbitmq", roles=None, seconds=trial.rng.uniform(5, 12))

    async with asyncio.TaskGroup() as group:
        group.create_task(stay_ready(trial))
        group.create_task(rounds(trial, 2, strike))


def _some_in_the_odd_queue(rng: Random) -> Planned:
    planned = plan_task(rng)
    if planned.kind is Kind.QUICK and rng.random() < 0.2:
        return replace(planned, body=planned.body | {"queue": "odd", "priority": "low"})
    return planned


@scenario(
    "queue-of-another-structure",
    plan=lambda tasks, rng: plan_of(tasks, rng, _some_in_the_odd_queue),
    settings={"QUEUES": "tasks,odd", "WORKER_QUEUES": "tasks.high:6,tasks.medium:3,tasks.low:1,odd.low:1"},
)
async def queue_of_another_structure(trial: Trial) -> None:
    """One queue cannot be what it should, and relays and maintenance start beside it: all others go on."""
    await trial.load.until(0.1)
    await faults.replace_queue(trial, "odd.low", arguments={"x-queue-type": "classic"})
    for role in (*trial.installation.fleet.of("relay"), *trial.installation.fleet.of("maintenance")):
        await faults.kill(trial, role)
    await until_others_are_final(trial, "queue = 'odd'")
    if not any(_names_the_odd_queue(role) for role in trial.installation.fleet):
        trial.flaws.append("no role's log says that odd.low cannot be used")
    await faults.delete_queue(trial, "odd.low")


def _names_the_odd_queue(role: RoleProcess) -> bool:
    lines = role.log_file.read_text().splitlines()
    return any('"queue_unusable"' in line and '"odd.low"' in line for line in lines)
