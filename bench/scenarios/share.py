"""How evenly tasks of some length spread over several workers, and what sharing messages costs there."""

from collections.abc import Mapping
from typing import Any, Final

from bench.backlog import work_off
from bench.figures import Figure, Sample, at_most
from bench.ground import Ground
from bench.scenario import Scenario
from bench.tuning import HELD_WORKERS

WORKERS: Final = 4
BODY: Final[Mapping[str, Any]] = {"type": "bench.sleep", "payload": {"seconds": 0.02}}
ONE_TASK_PER_MESSAGE: Final = {"OUTBOX_TASKS_PER_MESSAGE": "1"}


async def measure(ground: Ground) -> Sample:
    largest, seconds = await _spread(ground, {})
    alone_largest, alone_seconds = await _spread(ground, ONE_TASK_PER_MESSAGE)
    return {
        "largest": largest,
        "seconds": seconds,
        "alone_largest": alone_largest,
        "alone_seconds": alone_seconds,
        "ratio": seconds / alone_seconds,
    }


async def _spread(ground: Ground, settings: Mapping[str, str]) -> tuple[float, float]:
    """The largest worker's share, as a multiple of the mean, and the seconds from first claim to last outcome."""
    tasks = ground.sizes.share
    backlog = await work_off(ground.tuned(settings), BODY, tasks, workers=WORKERS)
    return max(backlog.by_worker.values()) * WORKERS / tasks, backlog.span.seconds


SCENARIO: Final = Scenario(
    "share",
    "20 ms async tasks wait in RabbitMQ, then four workers are released at once: each worker's share, and the time "
    "from the first claim to the last recorded outcome; then the same with one task per message",
    (
        Figure("largest", "20 ms tasks over four workers: largest share ÷ mean", "×", at_most(1.2)),
        Figure("seconds", "20 ms tasks over four workers: time to empty", "s"),
        Figure("alone_largest", "one task per message: largest share ÷ mean", "×"),
        Figure("alone_seconds", "one task per message: time to empty", "s"),
        Figure("ratio", "time to empty ÷ one task per message", "×", at_most(1.1)),
    ),
    measure,
    settings=HELD_WORKERS,
)
