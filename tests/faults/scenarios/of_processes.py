"""Processes die, pause, or live in another hour."""

from random import Random
from typing import Final

from tests.faults import faults
from tests.faults.boundaries import BOUNDARIES
from tests.faults.faults import Trial
from tests.faults.processes import Crash, Fleet
from tests.faults.scenarios.of_schedules import account_adds_up, tick_meanwhile
from tests.faults.scenarios.registry import (
    KILLS,
    ROUNDS,
    SCENARIOS,
    Inject,
    Scenario,
    no_fault,
    nothing_to_verify,
    rounds,
    scenario,
)
from tests.faults.settings import LEASE_SECONDS

SCENARIOS["none"] = Scenario(name="none", inject=no_fault, sends_once=True)


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

    # A relay comes to its boundaries seldom while the API publishes by itself.
    settings = {"OUTBOX_EAGER": "false"} if boundary.role == "relay" else {}
    SCENARIOS[f"crash-{name}"] = Scenario(
        name=f"crash-{name}",
        inject=crash,
        prepare=arm,
        boundary=name,
        settings=settings,
        verify=_CHECKS.get(name.partition("-")[0], nothing_to_verify),
    )


async def _kill_workers(trial: Trial) -> None:
    await rounds(trial, KILLS, lambda _: faults.kill(trial, trial.role("worker")))


async def _purge_queues(trial: Trial) -> None:
    await rounds(trial, ROUNDS, lambda _: faults.purge(trial))


async def _tick(trial: Trial) -> None:
    await tick_meanwhile(trial, trial.load.done.wait)


_CAUSES: Final[dict[str, Inject]] = {"rescuer": _kill_workers, "reconciler": _purge_queues, "ticker": _tick}
"""What gives a role something to do at its boundary, where the load alone does not."""

_CHECKS: Final[dict[str, Inject]] = {"ticker": account_adds_up}

for _name in BOUNDARIES:
    _crash_at(_name, _CAUSES.get(_name.partition("-")[0], no_fault))


@scenario("pause-worker")
async def pause_worker(trial: Trial) -> None:
    """Past its lease: what it runs is given away meanwhile, and it must record nothing when it wakes."""
    await rounds(trial, ROUNDS, lambda _: faults.pause(trial, trial.role("worker"), LEASE_SECONDS * 2 + 1))


@scenario("pause-api", settings={"OUTBOX_EAGER_GRACE_SECONDS": "0.1"})
async def pause_api(trial: Trial) -> None:
    """The relays take its rows meanwhile, and it goes on with them when it wakes."""
    await rounds(trial, KILLS, lambda _: faults.pause(trial, trial.role("api"), 0.5))


@scenario("pause-others")
async def pause_others(trial: Trial) -> None:
    await rounds(trial, ROUNDS, lambda _: faults.pause(trial, trial.role("relay", "maintenance"), LEASE_SECONDS * 2))


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

    SCENARIOS[f"clock-{hours}"] = Scenario(
        name=f"clock-{hours}", inject=clock_skewed, needs="faketime", prepare=prepare
    )


_skew("+1h")
_skew("-1h")
