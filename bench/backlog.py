"""A backlog in RabbitMQ that several workers work off, all from the same moment."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.figures import Sample
from bench.ground import Ground
from bench.installation import API, FINISH_SECONDS, MAINTENANCE, RELAY, WORKER
from bench.progress import Span
from bench.stages import counted


@dataclass(frozen=True, slots=True)
class Backlog:
    """What became of it: when it was worked off, how many tasks each worker ran, and what that cost each stage."""

    span: Span
    by_worker: Mapping[str, int]
    stages: Sample


async def work_off(ground: Ground, body: Mapping[str, Any], tasks: int, *, workers: int) -> Backlog:
    """The workers are up, warm and stopped by the kernel until everything is published: ``ground`` must be tuned with
    HELD_WORKERS."""
    async with ground.installation() as installation:
        await installation.start(MAINTENANCE, API, RELAY, *[WORKER] * workers)
        await installation.warm_up(body, ground.sizes.warm_up)
        installation.signal(WORKER, signal.SIGSTOP)
        progress = installation.progress()
        await installation.submit(body, tasks)
        await installation.until_published()
        await installation.settle()
        with counted(installation, tasks) as stages:
            installation.signal(WORKER, signal.SIGCONT)
            span = await progress.until_finished(tasks, timeout_seconds=FINISH_SECONDS)
        return Backlog(span, await progress.by_worker(), stages)
