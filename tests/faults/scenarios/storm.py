"""Faults of processes, of the network and of the servers side by side."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.faults import faults
from tests.faults.faults import Trial
from tests.faults.installation import QUEUES
from tests.faults.scenarios.of_network import some_roles
from tests.faults.scenarios.registry import scenario
from tests.faults.settings import LEASE_SECONDS


@scenario("storm", broker_forgets=True)
async def storm(trial: Trial) -> None:
    """Whatever comes: faults of processes, of the network and of the servers side by side, until the load is in."""
    async with asyncio.TaskGroup() as group:
        for pick in (_process_fault, _network_fault, _server_fault):
            group.create_task(_blow(trial, pick))


async def _blow(trial: Trial, pick: Callable[[Trial], Awaitable[None]]) -> None:
    while not trial.load.done.is_set():
        await pick(trial)
        await asyncio.sleep(trial.rng.uniform(1, 4))


async def _process_fault(trial: Trial) -> None:
    rng = trial.rng
    if rng.random() < 0.5:
        await faults.kill(trial, trial.role(), down_seconds=rng.choice((0, 1, 3)))
    else:
        await faults.pause(trial, trial.role("worker", "relay", "maintenance"), rng.uniform(1, LEASE_SECONDS * 2))


async def _network_fault(trial: Trial) -> None:
    rng = trial.rng
    server, roles, seconds = rng.choice(("postgres", "rabbitmq")), some_roles(trial), rng.uniform(0.2, 6)
    if rng.random() < 0.5:
        await faults.cut(trial, server=server, roles=roles, seconds=seconds)
    else:
        one_sided = rng.random() < 0.3
        await faults.silence(trial, server=server, roles=roles, seconds=seconds, to_role=not one_sided)


async def _server_fault(trial: Trial) -> None:
    rng = trial.rng
    match rng.randrange(6):
        case 0:
            await faults.restart_database(trial)
        case 1:
            await faults.kill_database(trial, down_seconds=rng.uniform(0, 3))
        case 2:
            await faults.delete_queue(trial, rng.choice(QUEUES))
        case 3:
            await faults.purge(trial)
        case 4:
            await faults.raise_alarm(trial, rng.choice(("memory", "disk")), rng.uniform(1, 5))
        case _:
            await faults.kill_broker(trial, down_seconds=rng.uniform(0, 3), wipe=rng.random() < 0.5)
