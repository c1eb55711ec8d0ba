"""Where the processor time of a task goes: on the full path, as a single task, and with several workers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from bench.backlog import work_off
from bench.clocked import CONNECTIONS
from bench.figures import Figure, Sample
from bench.ground import Ground
from bench.installation import FINISH_SECONDS, ROLES
from bench.scenario import Measure, Scenario
from bench.scenarios import scale
from bench.scenarios.full_path import NOOP, sustained_rate
from bench.single_tasks import RATES
from bench.stages import COUNTED, FIGURES, counted
from bench.tuning import FOR_SHORT_TASKS

RATE: Final = RATES[-1]


async def measure_full_path(ground: Ground) -> Sample:
    tasks = ground.sizes.full_path
    async with ground.installation() as installation:
        await installation.start(*ROLES)
        await installation.warm_up(NOOP, ground.sizes.warm_up)
        await installation.settle()
        with counted(installation, tasks) as sample:
            rate = await sustained_rate(installation, tasks)
    return sample | {"rate": rate}


async def measure_single(ground: Ground) -> Sample:
    tasks = ground.sizes.latency_seconds * RATE
    async with ground.installation() as installation:
        await installation.start(*ROLES)
        await installation.warm_up(NOOP, ground.sizes.warm_up)
        await installation.settle()
        progress = installation.progress()
        with counted(installation, tasks) as sample:
            await installation.submit(NOOP, tasks, batch=1, connections=CONNECTIONS, rate=RATE)
            span = await progress.until_finished(tasks, timeout_seconds=FINISH_SECONDS)
    return sample | {"rate": span.rate}


async def measure_workers(ground: Ground) -> Sample:
    tasks = ground.sizes.scale * scale.WORKERS
    backlog = await work_off(ground, scale.BODY, tasks, workers=scale.WORKERS)
    return backlog.stages | {"rate": backlog.span.rate}


def _scenario(
    name: str, title: str, what: str, measure: Measure, settings: Mapping[str, str] | None = None
) -> Scenario:
    figures = (*FIGURES, Figure("rate", "rate meanwhile", "tasks/s"))
    titled = tuple(replace(figure, title=f"{title}: {figure.title}") for figure in figures)
    return Scenario(name, f"{what}; {COUNTED}", titled, measure, once=True, settings=settings or {})


SCENARIOS: Final = (
    _scenario("profile", "full path", "the full path as in the scenario full_path", measure_full_path, FOR_SHORT_TASKS),
    _scenario(
        "profile_single",
        "single tasks",
        f"{RATE} single POSTs of no-op tasks a second, default settings",
        measure_single,
    ),
    _scenario(
        "profile_workers",
        "four workers",
        "10 ms tasks over four workers as in the scenario scale",
        measure_workers,
        scale.SETTINGS,
    ),
)
"""Those of ``--profile``."""
