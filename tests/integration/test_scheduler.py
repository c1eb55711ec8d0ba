"""Tasks that fall due, one round at a time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from aftercommit.core.settings import Settings
from aftercommit.core.states import Status
from aftercommit.db import broker_loss, schedule
from aftercommit.db.database import Database, DatabaseConnection
from aftercommit.runtime.notifier import Notifier
from aftercommit.server.maintenance.scheduler import Scheduler
from tests.integration.rows import add_tasks, ids
from tests.integration.service import Service

INTERVAL_SECONDS = 7.0
ENQUEUED = "SELECT id FROM aftercommit.tasks WHERE enqueued"


@pytest.fixture
async def scheduler(settings: Settings) -> AsyncIterator[Scheduler]:
    database = Database(settings, application="test")
    notifier = Notifier(DatabaseConnection(settings, application="test"))
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


async def test_scheduled_tasks_go_out_once_from_any_number_of_schedulers(
    service: Service, scheduler: Scheduler, settings: Settings
) -> None:
    due = ids(2_500)
    await add_tasks(service, due, Status.SCHEDULED, due_seconds_ago=1)
    await add_tasks(service, ids(1, seconds_ago=60), Status.SCHEDULED, due_seconds_ago=-60)
    other_database = Database(settings, application="test")
    notifier = Notifier(DatabaseConnection(settings, application="test"))
    other = Scheduler(other_database, notifier, interval_seconds=INTERVAL_SECONDS)
    async with asyncio.timeout(60):
        while len(await service.query(ENQUEUED)) < len(due):
            await asyncio.gather(scheduler.run_once(), other.run_once())
    await other_database.close()
    sent = await service.query(
        "SELECT unnest(task_ids) AS id, unnest(dispatches) AS dispatch FROM aftercommit.outbox_rows"
    )
    assert sorted(row.id for row in sent) == sorted(due)
    assert {row.dispatch for row in sent} == {1}
    rows = await service.query("SELECT DISTINCT status, dispatch FROM aftercommit.tasks ORDER BY status")
    assert [tuple(row) for row in rows] == [("queued", 1), ("scheduled", 0)]


async def test_what_was_due_long_ago_is_left_to_the_sweep_after_the_first_round(
    service: Service, scheduler: Scheduler
) -> None:
    await scheduler.run_once()
    await add_tasks(service, ids(3), Status.SCHEDULED, due_seconds_ago=600)
    await scheduler.run_once()
    assert await service.query(ENQUEUED) == []
    await scheduler.sweep()
    assert len(await service.query(ENQUEUED)) == 3


async def test_what_is_given_a_time_that_has_passed_goes_out_in_the_next_round(
    service: Service, scheduler: Scheduler
) -> None:
    """By an operator, or by the loss detector for a retry that RabbitMQ lost."""
    await scheduler.run_once()
    rescheduled, lost = ids(2)
    await add_tasks(service, [rescheduled], Status.SCHEDULED, due_seconds_ago=-3_600)
    await add_tasks(service, [lost], Status.RETRYING, due_seconds_ago=600, sent_seconds_ago=700)
    await service.query("UPDATE aftercommit.tasks SET enqueued = true WHERE status = 'retrying'")
    now = datetime.now(UTC)
    async with DatabaseConnection(service.settings, application="test") as connection:
        assert await schedule.reschedule(connection.fetch, rescheduled, run_at=now - timedelta(days=1), delay=None)
        assert await broker_loss.postpone(connection.fetch, [lost], before=now) == 1
    assert await service.query(ENQUEUED) == []
    await scheduler.run_once()
    assert {row.id for row in await service.query(ENQUEUED)} == {rescheduled, lost}


@pytest.mark.parametrize("eager", [False, True])
async def test_task_that_falls_due_soon_wakes_a_scheduler_that_sleeps(service: Service, eager: bool) -> None:
    """Nothing here polls within the time that the test allows."""
    await service.maintenance(scheduler_interval_seconds=60)
    await service.relay(outbox_poll_interval=60)
    await service.worker()
    api = await service.api(outbox_eager=eager)
    first = await api.submit("echo")
    assert (await api.get(first["id"], wait=60))["status"] == "succeeded"  # all roles are up
    task = await api.submit("echo", delay_seconds=0.3)
    done = await api.get(task["id"], wait=20)
    assert done["status"] == "succeeded"
    waited = datetime.fromisoformat(done["first_started_at"]) - datetime.fromisoformat(task["created_at"])
    assert timedelta(seconds=0.3) <= waited < timedelta(seconds=15)
