"""A transaction elsewhere holds the row of one task: nothing else may wait for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from aftercommit.core.outcomes import Outcome
from aftercommit.core.states import Event
from aftercommit.core.task_ref import TaskRef
from aftercommit.db import claims, leases, record
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.queue_statistics import QueueStatistics
from tests.factories import a_lease
from tests.integration.service import Api, Service


@asynccontextmanager
async def locked(service: Service, *task_ids: str) -> AsyncIterator[None]:
    """Hold the rows of tasks, as a forgotten psql does."""
    async with service.engine.begin() as elsewhere:
        for task_id in task_ids:
            await elsewhere.exec_driver_sql("SELECT FROM aftercommit.tasks WHERE id = $1 FOR UPDATE", (UUID(task_id),))
        yield


@pytest.fixture
async def api(service: Service) -> Api:
    await service.relay()
    return await service.api()


async def test_outcomes_of_others_are_recorded_although_one_row_is_locked(api: Api, service: Service) -> None:
    await service.worker()
    first = await api.submit("test.sleep", payload={"seconds": 0.5})
    await service.until("SELECT status = 'running' FROM aftercommit.tasks")
    async with locked(service, first["id"]):
        await api.submit_batch([{"type": "test.sleep", "payload": {"seconds": 0.5}} for _ in range(20)])
        await service.until("SELECT count(*) = 20 FROM aftercommit.tasks WHERE status = 'succeeded'", seconds=12)
        assert (await api.get(first["id"]))["status"] == "running"
    assert (await api.get(first["id"], wait=10))["status"] == "succeeded"
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.claims)", seconds=5)


async def test_others_are_claimed_although_rows_are_locked_and_those_are_claimed_when_they_are_free(
    api: Api, service: Service
) -> None:
    """With two slots the worker claims one task at a time, on each of two connections: both meet a locked row."""
    first = [(await api.submit("echo"))["id"] for _ in range(2)]
    async with locked(service, *first):
        await service.worker(worker_concurrency=2)
        await api.submit_batch([{"type": "echo"} for _ in range(20)])
        await service.until("SELECT count(*) = 20 FROM aftercommit.tasks WHERE status = 'succeeded'", seconds=15)
        assert [(await api.get(task_id))["status"] for task_id in first] == ["queued", "queued"]
    for task_id in first:
        # No maintenance runs: the worker kept the messages.
        done = await api.get(task_id, wait=15)
        assert (done["status"], done["attempt"], done["dispatch"]) == ("succeeded", 1, 1)


@pytest.fixture
async def tasks(service: Service) -> list[TaskRef]:
    api = await service.api()
    return [TaskRef(UUID(task["id"]), 1) for task in await api.submit_batch([{"type": "echo"} for _ in range(3)])]


@pytest.fixture
async def link(service: Service) -> AsyncIterator[DatabaseConnection]:
    async with DatabaseConnection(service.settings, application="test") as opened:
        yield opened


CLAIM = UUID(int=1)


async def test_claim_tells_a_locked_row_from_a_stale_one(
    service: Service, link: DatabaseConnection, tasks: list[TaskRef]
) -> None:
    free, held, stale = tasks[0], tasks[1], tasks[2]._replace(dispatch=7)
    async with locked(service, str(held.task_id)):
        claimed = await claims.claim(link.fetch, [free, held, stale], worker="w", claim_id=CLAIM)
        assert [task.ref for task in claimed] == [free]
        assert await claims.find_claimable(link.fetch, {held, stale}, worker="w") == {held}


async def test_claim_that_is_asked_again_lists_what_joined_it_meanwhile(
    service: Service, link: DatabaseConnection, tasks: list[TaskRef]
) -> None:
    async with locked(service, str(tasks[1].task_id)):
        await claims.claim(link.fetch, tasks, worker="w", claim_id=CLAIM)
    async with locked(service, str(tasks[0].task_id)):
        again = await claims.claim(link.fetch, tasks, worker="w", claim_id=CLAIM)
    assert {task.ref for task in again} == {tasks[1], tasks[2]}
    assert {task.attempt for task in again} == {1}
    (row,) = await service.query("SELECT task_ids FROM aftercommit.claims")
    assert sorted(row.task_ids) == [ref.task_id for ref in tasks]


async def test_record_leaves_a_locked_row_and_its_claim(
    service: Service, link: DatabaseConnection, tasks: list[TaskRef]
) -> None:
    await claims.claim(link.fetch, tasks, worker="w", claim_id=CLAIM)
    outcomes = [Outcome(task_id=ref.task_id, attempt=1, worker="w", ending=Event.SUCCEED, result="1") for ref in tasks]
    strange = Outcome(task_id=tasks[2].task_id, attempt=1, worker="other", ending=Event.SUCCEED, result="2")
    async with locked(service, str(tasks[1].task_id)):
        taken = await record.record(link.fetch, outcomes[:2], closed=[CLAIM])
        assert taken == {(tasks[0].task_id, 1): Event.SUCCEED}
        assert await record.find_running(link.fetch, [outcomes[1], strange]) == {(tasks[1].task_id, 1)}
    assert await service.query("SELECT id FROM aftercommit.claims") == [(CLAIM,)]
    assert len(await record.record(link.fetch, outcomes[1:], closed=[CLAIM])) == 2
    assert await service.query("SELECT id FROM aftercommit.claims") == []


async def test_lease_is_renewed_although_a_row_of_statistics_is_locked(
    service: Service, link: DatabaseConnection
) -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)

    async def renew(*statistics: QueueStatistics) -> bool:
        async with asyncio.timeout(5):
            renewed = await leases.renew(link.fetch, name="w", seconds=60, statistics=statistics, slots_taken=1)
            return renewed is not None

    await leases.open_lease(link.fetch, "w", a_lease())
    assert await renew(QueueStatistics("tasks.low", noon, 1.0))
    later = QueueStatistics("tasks.low", noon + timedelta(hours=1))
    async with service.engine.begin() as elsewhere:
        await elsewhere.exec_driver_sql("SELECT FROM aftercommit.queue_statistics FOR UPDATE")
        assert await renew(later, QueueStatistics("tasks.high", noon))
    seen = "SELECT work_queue, passed_at, task_seconds FROM aftercommit.queue_statistics ORDER BY work_queue DESC"
    assert await service.query(seen) == [("tasks.low", noon, 1.0), ("tasks.high", noon, None)]
    assert await renew(later, QueueStatistics("tasks.high", noon - timedelta(hours=1), 2.0))
    assert await service.query(seen) == [("tasks.low", later.passed_at, 1.0), ("tasks.high", noon, 2.0)]


async def test_locked_row_does_not_use_up_a_small_prefetch(api: Api, service: Service) -> None:
    first = (await api.submit("echo"))["id"]
    async with locked(service, first):
        await service.worker(worker_prefetch=1)
        await api.submit_batch([{"type": "echo"} for _ in range(5)])
        await service.until("SELECT count(*) = 5 FROM aftercommit.tasks WHERE status = 'succeeded'", seconds=15)
    assert (await api.get(first, wait=15))["status"] == "succeeded"


async def test_outcome_that_waited_for_a_locked_row_goes_before_the_rescuer(api: Api, service: Service) -> None:
    """The row is locked until its task is long overdue: the worker has the outcome, and gets to write it."""
    await service.worker()
    await service.maintenance(rescue_interval_seconds=0.05, rescue_overdue_seconds=0.5)
    tasks = await api.submit_batch(
        [{"type": "test.sleep", "payload": {"seconds": 0.5}, "timeout_seconds": 1} for _ in range(5)]
    )
    await service.until("SELECT count(*) = 5 FROM aftercommit.tasks WHERE status = 'running'")
    async with locked(service, *(task["id"] for task in tasks)):
        await asyncio.sleep(4)
    for task in tasks:
        done = await api.get(task["id"], wait=15)
        assert (done["status"], done["attempt"]) == ("succeeded", 1)
