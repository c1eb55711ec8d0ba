"""Where the processor time of a task goes: the full path, with the time of every process counted."""

import time
from collections.abc import Mapping
from typing import Final

from bench.figures import Figure, Sample
from bench.ground import FOR_SHORT_TASKS, Ground
from bench.installation import API, MAINTENANCE, RELAY, ROLES, WORKER, Installation
from bench.proc import cpu_seconds, family
from bench.scenario import Scenario
from bench.scenarios.full_path import NOOP, sustained_rate

POSTGRES: Final = "postgres"
RABBITMQ: Final = "rabbitmq"
STAGES: Final = (API, RELAY, WORKER, MAINTENANCE, POSTGRES, RABBITMQ)


async def measure(ground: Ground) -> Sample:
    tasks = ground.sizes.full_path
    async with ground.installation(**FOR_SHORT_TASKS) as installation:
        await installation.start(*ROLES)
        await installation.warm_up(NOOP, ground.sizes.warm_up)
        await installation.settle()
        before, started_at = _seconds_by_stage(installation), time.monotonic()
        rate = await sustained_rate(installation, tasks)
        after, ended_at = _seconds_by_stage(installation), time.monotonic()
    used = {stage: after[stage] - before[stage] for stage in STAGES}
    sample = {stage: seconds / tasks * 1e6 for stage, seconds in used.items()}
    return sample | {
        "total": sum(sample.values()),
        "cores": sum(used.values()) / (ended_at - started_at),
        "rate": rate,
    }


def _seconds_by_stage(installation: Installation) -> Mapping[str, float]:
    servers = installation.servers
    pids = {kind: installation.pids(kind) for kind in ROLES}
    pids[POSTGRES] = family(servers.postgres.pid or 0)
    pids[RABBITMQ] = family(servers.rabbitmq.pid or 0)
    return {stage: cpu_seconds(pids[stage]) for stage in STAGES}


SCENARIO: Final = Scenario(
    "profile",
    "the full path as in the scenario full_path: user and system time of each process, as the kernel counts it, "
    "divided by the tasks; the load and the benchmark's own polling are not counted, but what they cost Postgres is",
    (
        *(Figure(stage, f"processor time in {stage}", "µs/task") for stage in STAGES),
        Figure("total", "processor time, all together", "µs/task"),
        Figure("cores", "cores kept busy by all of them", "cores"),
        Figure("rate", "full path while profiled", "tasks/s"),
    ),
    measure,
)
