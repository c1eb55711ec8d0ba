"""What scheduled tasks cost while they wait: submits and an idle maintenance process beside very many of them."""

import asyncio
from typing import Final

from bench.figures import Figure, Sample, at_least, median
from bench.ground import Ground
from bench.installation import API, MAINTENANCE, Installation
from bench.proc import cpu_seconds
from bench.scenario import Scenario
from bench.seeding import add_scheduled

NOOP: Final = {"type": "bench.noop"}
CONNECTIONS: Final = 64


async def measure(ground: Ground) -> Sample:
    none = await _with(ground, scheduled=0)
    many = await _with(ground, scheduled=ground.sizes.growth_waiting)
    return {
        "submit": many["submit"],
        "submit_ratio": many["submit"] / none["submit"],
        "maintenance": many["maintenance"],
        "maintenance_alone": none["maintenance"],
    }


async def _with(ground: Ground, *, scheduled: int) -> Sample:
    async with ground.installation() as installation:
        await add_scheduled(installation.connection, scheduled)
        await installation.connection.execute("VACUUM (ANALYZE)", timeout=3_600)
        await installation.start(MAINTENANCE, API)
        await installation.submit(NOOP, CONNECTIONS, batch=1, connections=CONNECTIONS)
        await installation.settle()
        rounds = [await _submit_rate(installation, ground.sizes.submit_single) for _ in range(ground.sizes.rounds)]
        return {"submit": median(rounds), "maintenance": await _idle(installation, ground.sizes.idle_seconds)}


async def _submit_rate(installation: Installation, tasks: int) -> float:
    """Tasks/s from the first request sent to the last answer."""
    receipt = await installation.submit(NOOP, tasks, batch=1, connections=CONNECTIONS)
    return tasks / (receipt.last_answered_at - receipt.first_sent_at)


async def _idle(installation: Installation, seconds: float) -> float:
    """Processor time of maintenance, in % of a core."""
    pids = installation.pids(MAINTENANCE)
    before = cpu_seconds(pids)
    await asyncio.sleep(seconds)
    return (cpu_seconds(pids) - before) / seconds * 100


SCENARIO: Final = Scenario(
    "scheduled",
    "one API and one maintenance process, without and then with scheduled tasks that wait for their time (1 million in "
    "full): one POST per task over 64 connections, the median of several rounds, and then nothing",
    (
        Figure("submit", "submit beside the scheduled tasks, one POST per task", "tasks/s"),
        Figure("submit_ratio", "÷ the same without them", "×", at_least(0.95)),
        Figure("maintenance", "idle maintenance beside them", "% of a core"),
        Figure("maintenance_alone", "the same without them", "% of a core"),
    ),
    measure,
    once=True,
)
