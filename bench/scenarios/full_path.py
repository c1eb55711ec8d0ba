"""Everything at once: submit, relay, work, record."""

from collections.abc import Mapping
from typing import Any, Final

from bench.figures import Figure, Sample
from bench.ground import Ground
from bench.installation import FINISH_SECONDS, ROLES, Installation
from bench.scenario import Scenario
from bench.tuning import FOR_SHORT_TASKS

NOOP: Final = {"type": "bench.noop"}


async def sustained_rate(installation: Installation, tasks: int, body: Mapping[str, Any] = NOOP) -> float:
    """Tasks/s from the first submit to the last recorded outcome, while submits keep some thousand tasks ahead."""
    progress = installation.progress()
    receipt = await installation.submit(body, tasks, dsn=installation.dsn)
    span = await progress.until_finished(tasks, timeout_seconds=FINISH_SECONDS)
    return tasks / (span.last_finished_at - receipt.first_sent_at)


async def measure(ground: Ground) -> Sample:
    async with ground.installation() as installation:
        await installation.start(*ROLES)
        await installation.warm_up(NOOP, ground.sizes.warm_up)
        await installation.settle()
        return {"rate": await sustained_rate(installation, ground.sizes.full_path)}


SCENARIO: Final = Scenario(
    "full_path",
    "no-op tasks in batches of 1,000 over HTTP, relayed, run by one worker and recorded, all at once: from the first "
    "submit to the last recorded outcome; submits pause while 6,000 tasks were submitted since the oldest unfinished "
    "one",
    (Figure("rate", "full path, sustained, one worker", "tasks/s"),),
    measure,
    settings=FOR_SHORT_TASKS,
)
