"""Submits alone: how fast one API process commits tasks."""

from typing import Final

from bench.figures import Figure, Sample, at_least
from bench.ground import Ground
from bench.installation import API, MAINTENANCE, UNGROUPED_API
from bench.scenario import Scenario

NOOP: Final = {"type": "bench.noop"}
CONNECTIONS: Final = 64
BATCH_CONNECTIONS: Final = 4


async def measure(ground: Ground) -> Sample:
    sizes = ground.sizes
    single = await _rate(ground, sizes.submit_single, batch=1)
    alone = await _rate(ground, sizes.submit_single, batch=1, api=UNGROUPED_API)
    batched = await _rate(ground, sizes.submit_batch, batch=1_000)
    return {"single": single, "alone": alone, "gain": single / alone, "batch": batched}


async def _rate(ground: Ground, tasks: int, *, batch: int, api: str = API) -> float:
    """Tasks/s from the first request sent to the last answer."""
    connections = CONNECTIONS if batch == 1 else BATCH_CONNECTIONS
    async with ground.installation() as installation:
        await installation.start(MAINTENANCE, api)
        await installation.submit(NOOP, batch * connections, batch=batch, connections=connections)
        await installation.settle()
        receipt = await installation.submit(NOOP, tasks, batch=batch, connections=connections)
    return tasks / (receipt.last_answered_at - receipt.first_sent_at)


SCENARIO: Final = Scenario(
    "submit",
    "one API process, no relay and no worker: from the first request sent to the last answer; one POST per task over "
    "64 keep-alive connections, and batches of 1,000 over 4",
    (
        Figure("single", "submit, one POST per task", "tasks/s"),
        Figure("alone", "the same, an SQLAlchemy transaction per request", "tasks/s"),
        Figure("gain", "gathered ÷ a transaction per request", "×", at_least(8)),
        Figure("batch", "submit in batches of 1,000", "tasks/s"),
    ),
    measure,
)
