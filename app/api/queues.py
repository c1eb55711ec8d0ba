"""``/v1/queues``: what waits where, as Postgres and RabbitMQ see it."""

import asyncio
from typing import Final

from fastapi import APIRouter

from app.api.problems import responses
from app.api.schemas import QueueOut, QueuesOut
from app.api.services import Served, Services
from app.broker.inspection import BrokerQueue
from app.broker.topology import DEAD_LETTERS
from app.db import queue_counts
from app.db.engine import single_statement
from app.errors import BrokerUnavailable

router: Final = APIRouter(prefix="/v1/queues", tags=["queues"])


@router.get("", responses=responses())
async def list_queues(services: Served) -> QueuesOut:
    """Every work queue. When the broker is down its columns are null and ``broker`` says why."""
    async with single_statement(services.engine) as connection:
        counts = {row.name: row for row in await queue_counts.count(connection)}
    names = list(dict.fromkeys([*map(str, services.settings.work_queues), *sorted(counts)]))
    seen: dict[str, BrokerQueue] = {}
    state = "up"
    unacknowledged: dict[str, int] = {}
    try:
        seen, unacknowledged = await asyncio.gather(
            services.inspector.look([*names, DEAD_LETTERS]), _unacknowledged(services)
        )
    except BrokerUnavailable as error:
        state = error.detail
    queues = []
    for name in names:
        known, found = counts.get(name), seen.get(name)
        queues.append(
            QueueOut(
                name=name,
                waiting=known.waiting if known else 0,
                running=known.running if known else 0,
                failed=known.failed if known else 0,
                oldest_waiting_seconds=known.oldest_waiting_seconds if known else None,
                ready=found.ready if found else None,
                unacknowledged=unacknowledged.get(name),
                consumers=found.consumers if found else None,
            )
        )
    dead = seen.get(DEAD_LETTERS)
    return QueuesOut(queues=queues, dead_letters=dead.ready if dead else None, broker=state)


async def _unacknowledged(services: Services) -> dict[str, int]:
    return await services.management.unacknowledged() if services.management is not None else {}
