"""What four workers do that one cannot."""

from collections.abc import Mapping
from typing import Any, Final

from bench.backlog import work_off
from bench.figures import Figure, Sample, at_least
from bench.ground import Ground
from bench.scenario import Scenario
from bench.tuning import HELD_WORKERS

WORKERS: Final = 4
SETTINGS: Final = HELD_WORKERS | {"WORKER_CONCURRENCY": "50"}
BODY: Final[Mapping[str, Any]] = {"type": "bench.sleep", "payload": {"seconds": 0.01}}


async def measure(ground: Ground) -> Sample:
    one = await _rate(ground, 1)
    four = await _rate(ground, WORKERS)
    return {"one": one, "four": four, "ratio": four / one}


async def _rate(ground: Ground, workers: int) -> float:
    """Tasks/s of a backlog of as many tasks for each worker."""
    tasks = ground.sizes.scale * workers
    backlog = await work_off(ground, BODY, tasks, workers=workers)
    return backlog.span.rate


SCENARIO: Final = Scenario(
    "scale",
    "10 ms async tasks with WORKER_CONCURRENCY=50 wait in RabbitMQ, then one worker is released, then four with four "
    "times as many: from the first claim to the last recorded outcome",
    (
        Figure("one", "10 ms tasks, one worker", "tasks/s"),
        Figure("four", "10 ms tasks, four workers", "tasks/s"),
        Figure("ratio", "four workers ÷ one", "×", at_least(3.5)),
    ),
    measure,
    settings=SETTINGS,
)
