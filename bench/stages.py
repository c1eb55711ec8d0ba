"""The processor time of each stage, user and system, as the kernel counts it for its processes."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from bench.figures import Figure, Sample
from bench.installation import API, MAINTENANCE, RELAY, ROLES, WORKER, Installation
from bench.proc import cpu_seconds, family

POSTGRES: Final = "postgres"
RABBITMQ: Final = "rabbitmq"
STAGES: Final = (API, RELAY, WORKER, MAINTENANCE, POSTGRES, RABBITMQ)

FIGURES: Final = (
    *(Figure(stage, f"processor time in {stage}", "µs/task") for stage in STAGES),
    Figure("total", "processor time, all together", "µs/task"),
    Figure("cores", "cores kept busy by all of them", "cores"),
)
"""Of what ``counted`` fills."""

COUNTED: Final = (
    "user and system time of each process, as the kernel counts it, divided by the tasks; the load and the benchmark's "
    "own polling are not counted, but what they cost Postgres is"
)


@contextmanager
def counted(installation: Installation, tasks: int) -> Iterator[Sample]:
    """A sample that is filled at the end of the block, in which ``tasks`` tasks run."""
    sample: Sample = {}
    before, started_at = _seconds_by_stage(installation), time.monotonic()
    yield sample
    after, ended_at = _seconds_by_stage(installation), time.monotonic()
    used = {stage: after[stage] - before[stage] for stage in STAGES}
    sample |= {stage: seconds / tasks * 1e6 for stage, seconds in used.items()}
    sample |= {
        "total": sum(used.values()) / tasks * 1e6,
        "cores": sum(used.values()) / (ended_at - started_at),
    }


def pids_by_stage(installation: Installation) -> dict[str, list[int]]:
    servers = installation.servers
    return {
        **{kind: installation.pids(kind) for kind in ROLES},
        POSTGRES: family(servers.postgres.pid or 0),
        RABBITMQ: family(servers.rabbitmq.pid or 0),
    }


def _seconds_by_stage(installation: Installation) -> Mapping[str, float]:
    pids = pids_by_stage(installation)
    return {stage: cpu_seconds(pids[stage]) for stage in STAGES}
