"""A backlog that RabbitMQ holds, and one worker process that is then started."""

from typing import Final

from bench.figures import Figure, Sample
from bench.ground import Ground
from bench.installation import FINISH_SECONDS, ROLES, WORKER
from bench.scenario import Scenario
from bench.tuning import FOR_SHORT_TASKS

NOOP: Final = {"type": "bench.noop"}


async def measure(ground: Ground) -> Sample:
    tasks = ground.sizes.drain
    async with ground.installation() as installation:
        await installation.start(*ROLES)
        await installation.warm_up(NOOP, ground.sizes.warm_up)
        await installation.stop(WORKER)
        progress = installation.progress()
        await installation.submit(NOOP, tasks)
        await installation.until_published()
        await installation.settle()
        await installation.start(WORKER)
        span = await progress.until_finished(tasks, timeout_seconds=FINISH_SECONDS)
    return {"rate": span.rate}


SCENARIO: Final = Scenario(
    "drain",
    "no-op tasks wait in RabbitMQ, then one worker starts: from the first claim to the last recorded outcome, by the "
    "database's clock",
    (Figure("rate", "drain of a published backlog, one worker", "tasks/s"),),
    measure,
    settings=FOR_SHORT_TASKS,
)
