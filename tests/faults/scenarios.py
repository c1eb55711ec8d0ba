"""Each scenario: which faults strike while a load runs, seeded. All must leave an account that adds up."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from aftercommit.runtime.poll import first_of
from tests.faults import faults
from tests.faults.crashing import BOUNDARIES
from tests.faults.faults import Trial
from tests.faults.installation import QUEUES
from tests.faults.processes import Crash, Fleet
from tests.faults.settings import LEASE_SECONDS

__all__ = ["SCENARIOS", "Scenario", "Trial"]

Inject = Callable[[Trial], Awaitable[None]]

ROUNDS: Final = 4
KILLS: Final = 10
SLOW_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """``broker_forgets``: dead letters may be gone too. ``needs``: a program without which it is skipped.

    ``prepare`` is called before the first process starts. ``boundary`` is where processes die, which at least one must.
    """

    name: str
    inject: Inject
    broker_forgets: bool = False
    needs: str | None = None
    prepare: Callable[[Fleet, Random], None] = lambda _fleet, _rng: None
    boundary: str | None = None

    @property
    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        return f"{self.needs} is not installed" if self.needs and shutil.which(self.needs) is None else None


SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(name: str, *, broker_forgets: bool = False, needs: str | None = None) -> Callable[[Inject], Inject]:
    def add(inject: Inject) -> Inject:
        SCENARIOS[name] = Scenario(name, inject, broker_forgets, needs)
        return inject

    return add


async def rounds(trial: Trial, count: int, strike: Callable[[int], Awaitable[None]]) -> None:
    """Strike ``count`` times, spread over the load."""
    for turn in range(count):
        await trial.load.until((turn + trial.rng.uniform(0.2, 0.8)) / count)
        await strike(turn)


@scenario("none")
async def nothing(trial: Trial) -> None:
    """The load alone: what the account shows without any fault."""


@scenario("kill-any")
async def kill_any(trial: Trial) -> None:
    await rounds(trial, KILLS, lambda _: faults.kill(trial, trial.role(), down_seconds=trial.rng.choice((0, 0, 1, 3))))


def _kill_kind(kind: str) -> None:
    @scenario(f"kill-{kind}")
    async def kill_kind(trial: Trial) -> None:
        await rounds(trial, KILLS, lambda _: faults.kill(trial, trial.role(kind)))


for _kind in ("api", "relay", "maintenance", "worker"):
    _kill_kind(_kind)


def _crash_at(name: str, cause: Inject) -> None:
    """Every process of the role dies there, life after life, until the load is in."""
    boundary = BOUNDARIES[name]

    def arm(fleet: Fleet, rng: Random) -> None:
        for process in fleet.of(boundary.role):
            process.crash = lambda: Crash(name, rng.randint(boundary.smallest_nth, boundary.largest_nth))

    async def crash(trial: Trial) -> None:
        await cause(trial)
        await trial.load.done.wait()

    SCENARIOS[f"crash-{name}"] = Scenario(f"crash-{name}", crash, prepare=arm, boundary=name)


async def _kill_workers(trial: Trial) -> None:
    await rounds(trial, KILLS, lambda _: faults.kill(trial, trial.role("worker")))


async def _purge_queues(trial: Trial) -> None:
    await rounds(trial, ROUNDS, lambda _: faults.purge(trial))


_CAUSES: Final = {"rescuer": _kill_workers, "reconciler": _purge_queues}
"""What gives a role something to do at its boundary, where the load alone does not."""

for _name in BOUNDARIES:
    _crash_at(_name, _CAUSES.get(_name.partition("-")[0], nothing))


@scenario("pause-worker")
async def pause_worker(trial: Trial) -> None:
    """Past its lease: what it runs is given away meanwhile, and it must record nothing when it wakes."""
    await rounds(trial, ROUNDS, lambda _: faults.pause(trial, trial.role("worker"), LEASE_SECONDS * 2 + 1))


@scenario("pause-others")
async def pause_others(trial: Trial) -> None:
    await rounds(trial, ROUNDS, lambda _: faults.pause(trial, trial.role("relay", "maintenance"), LEASE_SECONDS * 2))


@scenario("broker-killed")
async def broker_killed(trial: Trial) -> None:
    await rounds(trial, 2, lambda _: faults.kill_broker(trial, down_seconds=trial.rng.uniform(0, 3)))


@scenario("broker-wiped", broker_forgets=True)
async def broker_wiped(trial: Trial) -> None:
    await rounds(trial, 2, lambda _: faults.kill_broker(trial, down_seconds=trial.rng.uniform(0, 3), wipe=True))


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
    await _purge_queues(trial)


@scenario("queues-full")
async def queues_full(trial: Trial) -> None:
    await rounds(trial, 2, lambda _: faults.fill_queues(trial, seconds=5, messages=trial.rng.randint(1, 20)))


@scenario("database-killed")
async def database_killed(trial: Trial) -> None:
    await rounds(trial, ROUNDS, lambda _: faults.kill_database(trial, down_seconds=trial.rng.choice((0, 1, 5))))


@scenario("database-restarts")
async def database_restarts(trial: Trial) -> None:
    """Every few seconds, as long as the load comes in."""
    while not trial.load.done.is_set():
        await faults.restart_database(trial)
        await asyncio.sleep(trial.rng.uniform(2, 4))


@scenario("database-disk-full")
async def database_disk_full(trial: Trial) -> None:
    """For less than a lease, and for more."""
    await rounds(
        trial, ROUNDS, lambda _: faults.fill_database(trial, seconds=trial.rng.uniform(0.5, LEASE_SECONDS * 3))
    )


@scenario("horizon-held")
async def horizon_held(trial: Trial) -> None:
    await faults.hold_horizon(trial)


def _some_roles(trial: Trial) -> list[str] | None:
    return trial.rng.choice((None, [trial.role().name], [trial.role("worker").name]))


@scenario("network-cut")
async def network_cut(trial: Trial) -> None:
    async def strike(turn: int) -> None:
        server = ("postgres", "rabbitmq")[turn % 2]
        await faults.cut(trial, server=server, roles=_some_roles(trial), seconds=trial.rng.uniform(0.2, 6))

    await rounds(trial, ROUNDS * 2, strike)


def _silence(name: str, *, to_server: bool, to_role: bool) -> None:
    @scenario(f"network-silent-{name}")
    async def network_silent(trial: Trial) -> None:
        async def strike(turn: int) -> None:
            server = ("postgres", "rabbitmq")[turn % 2]
            seconds = trial.rng.uniform(2, LEASE_SECONDS * 3)
            await faults.silence(
                trial, server=server, roles=_some_roles(trial), seconds=seconds, to_server=to_server, to_role=to_role
            )

        await rounds(trial, ROUNDS, strike)


_silence("both-ways", to_server=True, to_role=True)
_silence("to-server", to_server=True, to_role=False)
_silence("to-role", to_server=False, to_role=True)


@scenario("network-blips")
async def network_blips(trial: Trial) -> None:
    """Shorter than a lease: the worker lives on, and must find out what became of what it asked for."""
    await rounds(trial, KILLS, lambda _: faults.blip(trial, trial.role("worker"), seconds=trial.rng.uniform(0.2, 0.6)))


@scenario("network-slow")
async def network_slow(trial: Trial) -> None:
    """200 ms each way, and a line of 2 MB/s: for two minutes at most, since submits are slow then, too."""
    proxy = trial.installation.proxy
    trial.struck.append("latency 200 ms each way")
    proxy.slow(proxy.links(), latency_seconds=0.2, bytes_per_second=2_000_000)
    await first_of(trial.load.done, timeout_seconds=SLOW_SECONDS)
    proxy.heal()


def _skew(hours: str) -> None:
    def prepare(fleet: Fleet, _rng: Random) -> None:
        skewed = faults.clock(hours)
        for kind in ("worker", "relay", "maintenance", "api"):
            fleet.of(kind)[0].extra = skewed

    async def clock_skewed(trial: Trial) -> None:
        """One process of each role lives in another hour, and one that does is killed."""
        trial.struck.append(f"one of each role at {hours}")
        await trial.load.until(0.5)
        await faults.kill(trial, trial.installation.fleet.of("worker")[0])

    SCENARIOS[f"clock-{hours}"] = Scenario(f"clock-{hours}", clock_skewed, needs="faketime", prepare=prepare)


_skew("+1h")
_skew("-1h")


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
    server, roles, seconds = rng.choice(("postgres", "rabbitmq")), _some_roles(trial), rng.uniform(0.2, 6)
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
