"""What it costs that two code bases with other types share a queue."""

import signal
from collections.abc import Sequence
from typing import Any, Final

from bench.figures import Figure, Sample, at_least
from bench.ground import Ground
from bench.installation import API, FINISH_SECONDS, MAINTENANCE, RELAY, WORKER
from bench.scenario import Scenario
from bench.tuning import FOR_SHORT_TASKS, HELD_WORKERS

ONE: Final = "bench.code_base_one"
TWO: Final = "bench.code_base_two"
BOTH: Final = f"{ONE},{TWO}"

SLEEP_SECONDS: Final = 0.01
CONCURRENCY: Final = "20"
"""With which two workers have processor time left while they run such tasks."""


async def measure(ground: Ground) -> Sample:
    sample: dict[str, float] = {}
    for name, payload, tasks, concurrency in (
        ("noop", {}, ground.sizes.drain, "1000"),
        ("sleep", {"seconds": SLEEP_SECONDS}, ground.sizes.scale, CONCURRENCY),
    ):
        bodies = [{"type": f"bench.{base}", "payload": payload} for base in ("one", "two")]
        same = await _rate(ground, (BOTH, BOTH), bodies, tasks, concurrency)
        other = await _rate(ground, (ONE, TWO), bodies, tasks, concurrency)
        sample |= {f"{name}_same": same, f"{name}_other": other, f"{name}_ratio": other / same}
    return sample


async def _rate(
    ground: Ground, modules: Sequence[str], bodies: Sequence[dict[str, Any]], tasks: int, concurrency: str
) -> float:
    """Tasks/s of a backlog that RabbitMQ holds, of as many tasks of each body in turn; a worker for each of
    ``modules``."""
    async with ground.installation() as installation:
        await installation.start(MAINTENANCE, API, RELAY)
        for each in modules:
            await installation.start(WORKER, settings={"WORKER_MODULES": each, "WORKER_CONCURRENCY": concurrency})
        await installation.warm_up(bodies, ground.sizes.warm_up)
        installation.signal(WORKER, signal.SIGSTOP)
        progress = installation.progress()
        await installation.submit(bodies, tasks, batch=100)
        await installation.until_published()
        await installation.settle()
        installation.signal(WORKER, signal.SIGCONT)
        span = await progress.until_finished(tasks, timeout_seconds=FINISH_SECONDS)
    return span.rate


SCENARIO: Final = Scenario(
    "code-bases",
    "tasks of two types, in turn, wait in RabbitMQ, then two workers are released: both know both types, or each knows "
    "one. From the first claim to the last recorded outcome. The tasks do nothing, or sleep for 10 ms under "
    f"WORKER_CONCURRENCY={CONCURRENCY}",
    (
        Figure("noop_same", "no-op tasks, both workers know both types", "tasks/s"),
        Figure("noop_other", "no-op tasks, each worker knows one", "tasks/s"),
        Figure("noop_ratio", "no-op tasks, one type each ÷ both", "×"),
        Figure("sleep_same", "10 ms tasks, both workers know both types", "tasks/s"),
        Figure("sleep_other", "10 ms tasks, each worker knows one", "tasks/s"),
        Figure("sleep_ratio", "10 ms tasks, one type each ÷ both", "×", at_least(0.95)),
    ),
    measure,
    settings=FOR_SHORT_TASKS | HELD_WORKERS,
)
