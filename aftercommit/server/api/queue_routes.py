"""``/v1/queues``: what waits where, as Postgres and RabbitMQ see it."""

import asyncio
from typing import Final

from fastapi import APIRouter

from aftercommit.broker.declaration import Report
from aftercommit.broker.inspection import BrokerQueue
from aftercommit.broker.topology import DEAD_LETTERS
from aftercommit.core.errors import BrokerUnavailable
from aftercommit.db import queue_counts
from aftercommit.server.api.dependencies import Dependencies, Injected
from aftercommit.server.api.problems import responses
from aftercommit.server.api.schemas import QueueOut, QueuesOut

router: Final = APIRouter(prefix="/v1/queues", tags=["queues"])


@router.get("", responses=responses())
async def list_queues(dependencies: Injected) -> QueuesOut:
    """Every work queue. When the broker is down its columns are null and ``broker`` says why."""
    counts = {row["name"]: row for row in await queue_counts.count(dependencies.database.fetch)}
    names = list(dict.fromkeys([*map(str, dependencies.settings.work_queues), *sorted(counts)]))
    seen: dict[str, BrokerQueue] = {}
    state = "up"
    unacknowledged: dict[str, int] = {}
    report = Report()
    try:
        seen, unacknowledged, report = await asyncio.gather(
            dependencies.inspector.look([*names, DEAD_LETTERS]),
            _unacknowledged(dependencies),
            dependencies.declarer.compare(),
        )
    except BrokerUnavailable as error:
        state = error.detail
    queues = []
    for name in names:
        known, found = counts.get(name), seen.get(name)
        queues.append(
            QueueOut(
                name=name,
                waiting=known["waiting"] if known else 0,
                running=known["running"] if known else 0,
                failed=known["failed"] if known else 0,
                oldest_waiting_seconds=known["oldest_waiting_seconds"] if known else None,
                ready=found.ready if found else None,
                unacknowledged=unacknowledged.get(name),
                consumers=found.consumers if found else None,
                problem=report.problems.get(name),
                tuning=report.tuning.get(name),
            )
        )
    dead = seen.get(DEAD_LETTERS)
    return QueuesOut(
        queues=queues, dead_letters=dead.ready if dead else None, broker=state, problems=dict(report.problems)
    )


async def _unacknowledged(dependencies: Dependencies) -> dict[str, int]:
    return await dependencies.management.unacknowledged() if dependencies.management is not None else {}
