"""The full path with millions of tasks around it, against an empty database."""

from typing import Final

from bench.figures import Figure, Sample, at_least, median
from bench.ground import Ground
from bench.installation import ROLES, Installation
from bench.scenario import Scenario
from bench.scenarios.full_path import NOOP, sustained_rate
from bench.seeding import PARKED, add_finished, add_waiting
from bench.tuning import FOR_SHORT_TASKS


async def measure(ground: Ground) -> Sample:
    empty = await _rate(ground, finished=0, waiting=0)
    grown = await _rate(ground, finished=ground.sizes.growth_finished, waiting=ground.sizes.growth_waiting)
    return {"empty": empty, "grown": grown, "ratio": grown / empty}


async def _rate(ground: Ground, *, finished: int, waiting: int) -> float:
    """The median of several rounds: filling the tables takes far longer than a round."""
    async with ground.installation(QUEUES=f"tasks,{PARKED}") as installation:
        await add_finished(installation.connection, finished)
        await add_waiting(installation.connection, waiting)
        await installation.start(*ROLES)
        await installation.until_published()
        await _vacuum(installation)
        await installation.warm_up(NOOP, ground.sizes.warm_up)
        await installation.settle()
        return median([await sustained_rate(installation, ground.sizes.growth) for _ in range(ground.sizes.rounds)])


async def _vacuum(installation: Installation) -> None:
    """As autovacuum leaves tables that have stood for a while."""
    await installation.connection.execute("VACUUM (ANALYZE)", timeout=3_600)


SCENARIO: Final = Scenario(
    "growth",
    "the full path in an empty database, then in one that holds finished tasks (10 million in full) and tasks that "
    "wait, with their messages, in a queue that nobody works (1 million in full): the median of several rounds in each",
    (
        Figure("empty", "full path, empty database", "tasks/s"),
        Figure("grown", "full path, grown database", "tasks/s"),
        Figure("ratio", "grown ÷ empty", "×", at_least(0.9)),
    ),
    measure,
    once=True,
    settings=FOR_SHORT_TASKS,
)
