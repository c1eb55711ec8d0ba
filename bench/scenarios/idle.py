"""What the roles cost when there is nothing to do, and how much memory they need when there is."""

import asyncio
from typing import Final

from bench.figures import Figure, Sample, at_most
from bench.ground import Ground
from bench.installation import API, FINISH_SECONDS, RELAY, ROLES, WORKER, Installation
from bench.proc import cpu_seconds, resident_bytes
from bench.scenario import Scenario

NOOP: Final = {"type": "bench.noop"}
RATE: Final = 5_000
"""Tasks/s of the load."""

BATCH: Final = 100
SETTLE_SECONDS: Final = 5.0
SWEEP_SECONDS: Final = 0.5
MEGABYTE: Final = 1_000_000


async def measure(ground: Ground) -> Sample:
    async with ground.installation() as installation:
        await installation.start(*ROLES)
        await asyncio.sleep(SETTLE_SECONDS)
        idle = await _idle(installation, seconds=ground.sizes.idle_seconds)
        return idle | await _busy(installation, seconds=ground.sizes.busy_seconds)


async def _idle(installation: Installation, *, seconds: float) -> Sample:
    pids = [pid for kind in ROLES for pid in installation.pids(kind)]
    before = cpu_seconds(pids)
    await asyncio.sleep(seconds)
    return {
        "cpu": (cpu_seconds(pids) - before) / seconds * 100,
        "rss": resident_bytes(pids) / MEGABYTE,
    }


async def _busy(installation: Installation, *, seconds: int) -> Sample:
    """The most memory that was seen while the load went on."""
    pids = [pid for kind in (API, RELAY, WORKER) for pid in installation.pids(kind)]
    tasks = RATE * seconds
    progress = installation.progress()
    load = asyncio.create_task(
        installation.submit(NOOP, tasks, batch=BATCH, rate=RATE / BATCH, connections=8), name="load"
    )
    most = 0
    while not load.done():
        most = max(most, resident_bytes(pids))
        await asyncio.sleep(SWEEP_SECONDS)
    receipt = load.result()
    span = await progress.until_finished(tasks, timeout_seconds=FINISH_SECONDS)
    return {"busy_rss": most / MEGABYTE, "busy_rate": tasks / (span.last_finished_at - receipt.first_sent_at)}


SCENARIO: Final = Scenario(
    "idle",
    "API, relay, maintenance and one worker without load: processor time and resident memory (pages that they share "
    "count for each); then 5,000 no-op tasks/s in batches of 100",
    (
        Figure("cpu", "idle: processor time of all four roles", "% of a core", at_most(2)),
        Figure("rss", "idle: resident memory of all four roles", "MB", at_most(300)),
        Figure("busy_rss", "at 5,000 tasks/s: resident memory of API, relay, worker", "MB", at_most(500)),
        Figure("busy_rate", "tasks/s really reached meanwhile", "tasks/s"),
    ),
    measure,
)
