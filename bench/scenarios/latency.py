"""From the client's send to the handler's first line."""

from typing import Final

from bench.figures import Figure, Sample, at_most, percentile
from bench.ground import Ground
from bench.installation import FINISH_SECONDS, ROLES, WORKER, Installation
from bench.load import STAMP
from bench.scenario import Scenario

TYPE: Final = "bench.latency"
RATE: Final = 500
"""Single POSTs per second."""

CONNECTIONS: Final = 64
LOW: Final = {"type": "bench.sleep", "payload": {"seconds": 0.02}, "priority": "low"}
"""Slow enough that they still wait when the measurement ends: 50 slots run 2,500 of them a second."""


async def measure(ground: Ground) -> Sample:
    sizes = ground.sizes
    async with ground.installation() as installation:
        await installation.start(*ROLES)
        await _latencies(installation, seconds=1)
        await installation.settle()
        empty, late = await _latencies(installation, seconds=sizes.latency_seconds)
    busy, still_waiting = await _behind_low(ground)
    return {
        "p50": percentile(empty, 50) * 1000,
        "p99": percentile(empty, 99) * 1000,
        "client_late": late * 1000,
        "high_p50": percentile(busy, 50) * 1000,
        "high_p99": percentile(busy, 99) * 1000,
        "still_waiting": still_waiting,
    }


async def _behind_low(ground: Ground) -> tuple[list[float], float]:
    """Latencies of high tasks while low ones wait, and how many low ones still did at the end."""
    waiting = ground.sizes.latency_waiting
    async with ground.installation() as installation:
        await installation.start(*ROLES)
        await _latencies(installation, seconds=1, priority="high")
        await installation.stop(WORKER)
        low = installation.progress()
        await installation.submit(LOW, waiting)
        await installation.until_published()
        await installation.settle()
        await installation.start(WORKER)
        latencies, _ = await _latencies(installation, seconds=ground.sizes.latency_seconds, priority="high")
        return latencies, await low.unfinished()


async def _latencies(
    installation: Installation, *, seconds: int, priority: str = "medium"
) -> tuple[list[float], float]:
    """Seconds for each task, and how late the load itself was at worst."""
    body = {"type": TYPE, "payload": {"sent_at": STAMP}, "priority": priority}
    tasks = seconds * RATE
    progress = installation.progress()
    receipt = await installation.submit(body, tasks, batch=1, connections=CONNECTIONS, rate=RATE, stamped=True)
    await progress.until_finished(tasks, timeout_seconds=FINISH_SECONDS)
    return await progress.results(TYPE), receipt.late_seconds


SCENARIO: Final = Scenario(
    "latency",
    "500 single POSTs a second by the clock: from the client's send to the handler's first line, on one clock; the "
    "wait for a free connection counts. Then the same with high priority while low 20 ms tasks wait for the one worker",
    (
        Figure("p50", "latency submit → handler start, p50", "ms", at_most(4)),
        Figure("p99", "latency submit → handler start, p99", "ms", at_most(10)),
        Figure("client_late", "the load's own worst delay, not counted", "ms"),
        Figure("high_p50", "high priority behind a low backlog, p50", "ms"),
        Figure("high_p99", "high priority behind a low backlog, p99", "ms", at_most(15)),
        Figure("still_waiting", "low tasks that still waited at the end", "tasks"),
    ),
    measure,
)
