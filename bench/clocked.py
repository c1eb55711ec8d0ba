"""Single tasks sent by the clock: from the client's send to the handler's first line, and what they cost.

Ours and the peers' are measured by the same load, with the same definitions.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from bench.figures import Sample, percentile
from bench.load import Receipt
from bench.proc import cpu_seconds
from bench.single_tasks import RATES

CONNECTIONS: Final = 64
WARM_TASKS: Final = 100
WARM_SECONDS: Final = 60.0
"""Also for the worker to start."""

PATIENCE_SECONDS: Final = 5.0
"""For answers that are missing when the last task was due, and then for tasks that have not started."""

TRAIL_SECONDS: Final = 0.3
"""After the last task, for what its acknowledgement or record costs."""

Start = tuple[float, float]
"""The Unix times of a task's send and of its handler's first line."""


class Endpoint(Protocol):
    """A system that takes single tasks over HTTP."""

    async def send(self, *, tasks: int, rate: int, connections: int, patience_seconds: float) -> Receipt: ...

    async def until_run(self, tasks: int, *, since: float) -> None:
        """Of the tasks sent since a Unix time."""

    async def starts(self, *, since: float) -> Sequence[Start]: ...

    def pids(self) -> Mapping[str, Sequence[int]]:
        """By part: its own processes, and the servers that it uses."""


async def warm_up(endpoint: Endpoint) -> None:
    """Raises TimeoutError when its worker does not come up."""
    since = time.time()
    await _send(endpoint, tasks=WARM_TASKS, rate=RATES[0])
    async with asyncio.timeout(WARM_SECONDS):
        await endpoint.until_run(WARM_TASKS, since=since)


async def measure_rates(endpoint: Endpoint, *, seconds: int) -> Sample:
    """Each figure with its rate before it."""
    sample: Sample = {}
    for rate in RATES:
        found = await measure(endpoint, rate=rate, seconds=seconds)
        sample |= {f"{rate}.{name}": value for name, value in found.items()}
    return sample


async def measure(endpoint: Endpoint, *, rate: int, seconds: int) -> Sample:
    """Also of a system that falls behind: what it did not start is given up after a while."""
    tasks = rate * seconds
    since = time.time()
    before = _used(endpoint)
    receipt = await _send(endpoint, tasks=tasks, rate=rate)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await endpoint.until_run(tasks, since=since)
    given_up_at = time.time()
    await asyncio.sleep(TRAIL_SECONDS)
    after = _used(endpoint)
    starts = await endpoint.starts(since=since)
    used = {part: (after[part] - before[part]) * 1000 / max(len(starts), 1) for part in before}
    waits = latencies(
        starts, tasks=tasks, last_due_at=receipt.first_sent_at + tasks / rate, given_up_at=given_up_at, rate=rate
    )
    return {**waits, "client_late": receipt.late_seconds * 1000, "cpu": sum(used.values()), **used}


def latencies(
    starts: Sequence[Start], *, tasks: int, rate: int, last_due_at: float, given_up_at: float
) -> dict[str, float]:
    """p50 and p99 in ms, and by how many seconds of load it was ``behind`` when the last task was due. A task that has
    not started waited at least from then until it was given up; its latency is that."""
    waits = [started - sent for sent, started in starts]
    waits += [given_up_at - last_due_at] * (tasks - len(waits))
    in_time = sum(started <= last_due_at for _, started in starts)
    return {
        "p50": percentile(waits, 50) * 1000,
        "p99": percentile(waits, 99) * 1000,
        "behind": (tasks - in_time) / rate,
    }


async def _send(endpoint: Endpoint, *, tasks: int, rate: int) -> Receipt:
    return await endpoint.send(tasks=tasks, rate=rate, connections=CONNECTIONS, patience_seconds=PATIENCE_SECONDS)


def _used(endpoint: Endpoint) -> dict[str, float]:
    """Seconds of processor time so far."""
    return {part: cpu_seconds(pids) for part, pids in endpoint.pids().items()}
