"""High-priority tasks while a backlog of low ones waits for the same worker."""

from typing import Any, Final

from bench import clocked
from bench.figures import Figure, Sample
from bench.ground import Ground
from bench.installation import ROLES, WORKER
from bench.peers.order import LOW_SECONDS
from bench.scenario import Scenario
from bench.scenarios.latency import Endpoint

LOW: Final[dict[str, Any]] = {"type": "bench.sleep", "payload": {"seconds": LOW_SECONDS}, "priority": "low"}


async def measure(ground: Ground) -> Sample:
    sizes = ground.sizes
    async with ground.installation() as installation:
        await installation.start(*ROLES)
        endpoint = Endpoint(installation, priority="high")
        await clocked.warm_up(endpoint)
        await installation.stop(WORKER)
        low = installation.progress()
        await installation.submit(LOW, sizes.waiting)
        await installation.until_published()
        await installation.checkpoint()
        await installation.start(WORKER)
        sample = await clocked.measure(endpoint, rate=sizes.high_rate, seconds=sizes.latency_seconds)
        return sample | {"still_waiting": await low.unfinished("bench.sleep")}


SCENARIO: Final = Scenario(
    "priority",
    "low-priority tasks of 20 ms wait, one worker with 50 slots is started, and high-priority single tasks come by the "
    "clock, 100 a second: latency as in the scenario latency. Peers that have priorities run the same",
    (
        Figure("p50", "high priority behind a low backlog, p50", "ms"),
        Figure("p99", "high priority behind a low backlog, p99", "ms"),
        Figure("still_waiting", "low tasks that still waited at the end", "tasks"),
    ),
    measure,
)
