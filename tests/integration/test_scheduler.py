"""Tasks that fall due, one round at a time."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from aftercommit.core.settings import Settings
from aftercommit.core.states import Status
from aftercommit.db.database import Database, DatabaseConnection
from aftercommit.runtime.notifier import OutboxNotifier
from aftercommit.server.maintenance.scheduler import Scheduler
from tests.integration.rows import add_tasks, ids
from tests.integration.service import Service

INTERVAL_SECONDS = 7.0
ENQUEUED = "SELECT id FROM aftercommit.tasks WHERE enqueued"


@pytest.fixture
async def scheduler(settings: Settings) -> AsyncIterator[Scheduler]:
    database = Database(settings, application="test")
    notifier = OutboxNotifier(DatabaseConnection(settings, application="test"))
    yield Scheduler(database, notifier, interval_seconds=INTERVAL_SECONDS)
    await database.close()


async def test_locked_task_holds_up_nobody_and_is_not_asked_for_without_a_pause(
    service: Service, scheduler: Scheduler
) -> None:
    locked, *others = ids(20)
    await add_tasks(service, [locked, *others], Status.RETRYING, due_seconds_ago=5)
    async with service.engine.begin() as elsewhere:
        await elsewhere.execute(text(f"SELECT FROM aftercommit.tasks WHERE id = '{locked}' FOR UPDATE"))
        async with asyncio.timeout(10):
            assert await scheduler.run_once() == INTERVAL_SECONDS
        assert {row.id for row in await service.query(ENQUEUED)} == set(others)
    await scheduler.run_once()
    assert len(await service.query(ENQUEUED)) == 20
    assert len(await service.query("SELECT unnest(task_ids) FROM aftercommit.outbox_rows")) == 20


async def test_next_round_comes_when_the_next_task_falls_due(service: Service, scheduler: Scheduler) -> None:
    await add_tasks(service, ids(1), Status.RETRYING, due_seconds_ago=-3)
    assert 0 < await scheduler.run_once() <= 3
    assert await service.query(ENQUEUED) == []
