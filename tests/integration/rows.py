"""Rows as other roles leave them, for tests of one statement or one round."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from aftercommit.core.queues import WorkQueue
from aftercommit.core.states import FINAL, Status
from aftercommit.db import leases
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.tasks import first_id_at
from tests.factories import a_lease
from tests.integration.service import Service

ADD_TASKS = """
    INSERT INTO aftercommit.tasks (id, type, queue, priority, status, dispatch, attempt, payload, error, result, worker,
        tags, enqueued, due_at, started_at, queued_at, finished_at)
    SELECT id, $2, $3, $4, $5, ($5 <> 'scheduled')::int, ($5 NOT IN ('queued', 'scheduled'))::int, '{}',
        CASE WHEN $5 IN ('failed', 'cancelled', 'expired') THEN '{"type": "Test", "message": "no luck"}'::json END,
        CASE WHEN $5 = 'succeeded' THEN 'null'::json END, $6, $7, $8,
        now() - make_interval(secs => $9), now() - make_interval(secs => $10), now() - make_interval(secs => $10),
        CASE WHEN $11 THEN now() - make_interval(secs => $12) END
    FROM unnest($1::uuid[]) AS given (id)
"""


def ids(count: int, *, seconds_ago: float = 0.0) -> list[UUID]:
    """Ids of tasks that were submitted so long ago, a millisecond apart; each call gives the same for its moment."""
    moment = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    return [
        UUID(int=first_id_at(moment + timedelta(milliseconds=n), shift=timedelta()).int | n + 1) for n in range(count)
    ]


async def add_tasks(
    service: Service,
    task_ids: Sequence[UUID],
    status: Status,
    *,
    type: str = "test",
    work_queue: str = "tasks.medium",
    worker: str | None = None,
    tags: Sequence[str] = (),
    due_seconds_ago: float | None = None,
    sent_seconds_ago: float = 0.0,
    finished_seconds_ago: float = 0.0,
) -> None:
    """Tasks in a state. One that is due waits for the scheduler; a running one stands in a claim of its worker."""
    place = WorkQueue.parse(work_queue)
    async with DatabaseConnection(service.settings, application="test") as connection:
        await connection.fetch(
            ADD_TASKS,
            task_ids,
            type,
            place.queue,
            place.priority,
            status,
            worker,
            tags,
            due_seconds_ago is None,
            due_seconds_ago,
            sent_seconds_ago,
            status in FINAL,
            finished_seconds_ago,
        )
        if status is Status.RUNNING:
            claim = "INSERT INTO aftercommit.claims (id, worker, task_ids, claimed_at) VALUES ($1, $2, $3, $4)"
            claimed_at = datetime.now(UTC) - timedelta(seconds=sent_seconds_ago)
            await connection.fetch(claim, task_ids[0], worker, task_ids, claimed_at)


async def add_worker(service: Service, name: str, *, alive: bool = True, **options: Any) -> None:
    """A worker's lease, as its heartbeat opens it; lost unless ``alive``."""
    known: dict[str, Any] = {"max_retries": 3, "timeout_seconds": 300.0, "hand_back_seconds": 3.0}
    async with DatabaseConnection(service.settings, application="test") as connection:
        await leases.open_lease(connection.fetch, name, a_lease(**known | options))
        if not alive:
            await leases.close(connection.fetch, name)


async def statuses(service: Service) -> dict[UUID, str]:
    return {row.id: row.status for row in await service.query("SELECT id, status FROM aftercommit.tasks")}
