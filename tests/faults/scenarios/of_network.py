"""Connections between roles and servers are cut, silent, slow."""

from typing import Final

from aftercommit.runtime.poll import first_of
from tests.faults import faults
from tests.faults.faults import Trial
from tests.faults.scenarios.registry import KILLS, ROUNDS, rounds, scenario
from tests.faults.settings import LEASE_SECONDS

SLOW_SECONDS: Final = 120.0


def some_roles(trial: Trial) -> list[str] | None:
    return trial.rng.choice((None, [trial.role().name], [trial.role("worker").name]))


@scenario("network-cut")
async def network_cut(trial: Trial) -> None:
    async def strike(turn: int) -> None:
        server = ("postgres", "rabbitmq")[turn % 2]
        await faults.cut(trial, server=server, roles=some_roles(trial), seconds=trial.rng.uniform(0.2, 6))

    await rounds(trial, ROUNDS * 2, strike)


def _silence(name: str, *, to_server: bool, to_role: bool) -> None:
    @scenario(f"network-silent-{name}")
    async def network_silent(trial: Trial) -> None:
        async def strike(turn: int) -> None:
            server = ("postgres", "rabbitmq")[turn % 2]
            seconds = trial.rng.uniform(2, LEASE_SECONDS * 3)
            await faults.silence(
                trial, server=server, roles=some_roles(trial), seconds=seconds, to_server=to_server, to_role=to_role
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
