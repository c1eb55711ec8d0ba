"""A run: the chosen jobs, in turn, as often as asked."""

import asyncio
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.figures import Sample, show
from bench.results import Results

ALLOWED_SECONDS: Final = 3 * 3_600.0
"""For one job: a hang must not keep the rest from running. Peers have a bound of their own."""


@dataclass(frozen=True, slots=True)
class Job:
    """``series`` names what its samples are kept under. ``once``: in the last repeat only."""

    series: str
    measure: Callable[[], Awaitable[Sample]]
    once: bool = False


async def run(jobs: Sequence[Job], *, repeats: int, results: Results) -> None:
    """Fill ``results``. The outer loop repeats, so that what is compared ran alternately, every other time in reverse
    order: the same commit beside itself was 0.88 times as fast where it came first. A job that fails is told and noted,
    and the rest goes on."""
    for repeat in range(1, repeats + 1):
        for job in jobs if repeat % 2 else reversed(jobs):
            if job.once and repeat < repeats:
                continue
            started_at = time.monotonic()
            series = results.of(job.series)
            try:
                async with asyncio.timeout(ALLOWED_SECONDS):
                    sample = await job.measure()
            except Exception as error:  # one broken job must not cost the others' figures
                series.failures.append(f"{type(error).__name__}: {error}")
                traceback.print_exc()
                continue
            series.samples.append(sample)
            tell(f"{repeat}/{repeats} {job.series} ({time.monotonic() - started_at:.0f} s): {_shown(sample)}")


def tell(text: str) -> None:
    """Progress, apart from the report."""
    print(text, file=sys.stderr, flush=True)


def _shown(sample: Sample) -> str:
    return ", ".join(f"{name} {show(value)}" for name, value in sample.items())
