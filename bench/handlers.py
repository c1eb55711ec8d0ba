"""The task types of the benchmarks, in the workers' processes."""

import asyncio
import time

from aftercommit import task


@task("bench.noop")
async def noop() -> None:
    """Nothing: what is measured is everything around it."""


@task("bench.sleep")
async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


@task("bench.latency")
async def latency(sent_at: float) -> float:
    """Seconds since ``sent_at``, the client's clock, which is this machine's too."""
    return time.time() - sent_at
