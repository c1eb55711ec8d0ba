"""From the client's send to the handler's first line, of single tasks."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from bench import clocked
from bench.clocked import Start
from bench.figures import Figure, Sample
from bench.ground import Ground
from bench.installation import MAINTENANCE, RELAY, ROLES, Installation
from bench.load import STAMP, Receipt
from bench.progress import SWEEP_SECONDS, Progress
from bench.scenario import Scenario
from bench.single_tasks import RATES
from bench.stages import STAGES, pids_by_stage

TYPE: Final = "bench.latency"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Our API, its relay and its worker."""

    installation: Installation
    priority: str = "medium"

    async def send(self, *, tasks: int, **order: Any) -> Receipt:
        body = {"type": TYPE, "payload": {"sent_at": STAMP}, "priority": self.priority}
        return await self.installation.submit(body, tasks, batch=1, stamped=True, **order)

    async def until_run(self, _: int, *, since: float) -> None:
        """Or refused: those that were answered are in the database."""
        progress = Progress(self.installation.connection, since=since)
        while await progress.oldest_unfinished() is not None:
            await asyncio.sleep(SWEEP_SECONDS)

    async def starts(self, *, since: float) -> list[Start]:
        return await Progress(self.installation.connection, since=since).starts(TYPE)

    def pids(self) -> dict[str, list[int]]:
        """What maintenance needs is the relay's."""
        found = pids_by_stage(self.installation)
        parts = {stage: found[stage] for stage in STAGES if stage != MAINTENANCE}
        return parts | {RELAY: [*found[RELAY], *found[MAINTENANCE]]}


async def measure(ground: Ground) -> Sample:
    async with ground.installation() as installation:
        await installation.start(*ROLES)
        endpoint = Endpoint(installation)
        await clocked.warm_up(endpoint)
        await installation.checkpoint()
        return await clocked.measure_rates(endpoint, seconds=ground.sizes.latency_seconds)


def _figures(rate: int) -> tuple[Figure, ...]:
    title = f"single tasks at {rate}/s"
    return (
        Figure(f"{rate}.p50", f"{title}: submit → handler start, p50", "ms"),
        Figure(f"{rate}.p99", f"{title}: submit → handler start, p99", "ms"),
        Figure(f"{rate}.cpu", f"{title}: processor time, all together", "ms/task"),
        Figure(f"{rate}.client_late", f"{title}: the load's own worst delay, not counted", "ms"),
    )


SCENARIO: Final = Scenario(
    "latency",
    f"single POSTs by the clock, {RATES[0]} and then {RATES[1]} a second: from the client's send to the handler's "
    "first line, on one clock; the wait for a free one of 64 connections counts. Processor time is user and system "
    "time of every process of ours and of both servers, as the kernel counts it, until the last task is recorded; what "
    "maintenance used is in the relay's",
    tuple(figure for rate in RATES for figure in _figures(rate)),
    measure,
)
