"""A run: the chosen scenarios, in turn, as often as asked."""

import asyncio
import sys
import time
import traceback
from collections.abc import Sequence

from bench.figures import Sample, show
from bench.ground import Ground
from bench.results import Results
from bench.scenario import Scenario

ALLOWED_SECONDS = 3_600.0


async def run(ground: Ground, scenarios: Sequence[Scenario], *, repeats: int, results: Results) -> None:
    """Fill ``results``. The outer loop repeats, so that what is compared ran alternately; a scenario that fails is
    told and noted, and the rest goes on."""
    await ground.prepare()
    for repeat in range(1, repeats + 1):
        for scenario in scenarios:
            started_at = time.monotonic()
            series = results.of(scenario.name)
            try:
                async with asyncio.timeout(ALLOWED_SECONDS):
                    sample = await scenario.measure(ground)
            except Exception as error:  # one broken scenario must not cost the others' figures
                series.failures.append(f"{type(error).__name__}: {error}")
                traceback.print_exc()
                continue
            series.samples.append(sample)
            tell(f"{repeat}/{repeats} {scenario.name} ({time.monotonic() - started_at:.0f} s): {_shown(sample)}")


def tell(text: str) -> None:
    """Progress, apart from the report."""
    print(text, file=sys.stderr, flush=True)


def _shown(sample: Sample) -> str:
    return ", ".join(f"{name} {show(value)}" for name, value in sample.items())
