"""What four workers do that one cannot."""

from collections.abc import Mapping
from typing import Any, Final

from bench.figures import Figure, Sample, at_least
from bench.ground import Ground
from bench.installation import FINISH_SECONDS, ROLES, WORKER
from bench.scenario import Scenario

WORKERS: Final = 4
BODY: Final[Mapping[str, Any]] = {"type": "bench.sleep", "payload": {"seconds": 0.01}}


async def measure(ground: Ground) -> Sample:
    one = await _rate(ground, 1)
    four = await _rate(ground, WORKERS)
    return {"one": one, "four": four, "ratio": four / one}


async def _rate(ground: Ground, workers: int) -> float:
    """Tasks/s of as many tasks for each worker; the workers are up when the first is submitted."""
    tasks = ground.sizes.scale * workers
    async with ground.installation(WORKER_CONCURRENCY="50") as installation:
        await installation.start(*ROLES, *[WORKER] * (workers - 1))
        await installation.warm_up(BODY, ground.sizes.warm_up)
        await installation.settle()
        progress = installation.progress()
        await installation.submit(BODY, tasks)
        span = await progress.until_finished(tasks, timeout_seconds=FINISH_SECONDS)
    return span.rate


SCENARIO: Final = Scenario(
    "scale",
    "10 ms async tasks with WORKER_CONCURRENCY=50, submitted as fast as one API takes them to one worker, then four "
    "times as many to four: from the first claim to the last recorded outcome",
    (
        Figure("one", "10 ms tasks, one worker", "tasks/s"),
        Figure("four", "10 ms tasks, four workers", "tasks/s"),
        Figure("ratio", "four workers ÷ one", "×", at_least(3.5)),
    ),
    measure,
)
