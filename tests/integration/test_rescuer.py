"""Tasks of lost workers, and tasks that run long past their timeout."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from aftercommit.core.errors import DatabaseTimeout, DatabaseUnavailable
from aftercommit.core.settings import Settings
from aftercommit.core.states import Status
from aftercommit.core.task_ref import TaskRef
from aftercommit.db import claims, leases, rescue
from aftercommit.db.database import Database, DatabaseConnection
from aftercommit.runtime.notifier import Notifier
from aftercommit.server.maintenance import rescuer as rescuers
from aftercommit.server.maintenance.rescuer import Rescuer
from tests.integration.rows import add_tasks, add_worker, ids, statuses
from tests.integration.service import QUICK_RESCUE, Api, Service, single_statement

INTERVAL_SECONDS = 7.0
OUTCOME_SECONDS = 0.3


@pytest.fixture
async def shared(settings: Settings) -> AsyncIterator[Database]:
    shared = Database(settings, application="test", seconds=2)
    yield shared
    await shared.close()


@pytest.fixture
def rescuer(shared: Database, settings: Settings) -> Rescuer:
    """Its rounds are called by the test."""
    notifier = Notifier(DatabaseConnection(settings, application="test"))
    return Rescuer(shared, notifier, interval_seconds=INTERVAL_SECONDS, overdue_seconds=1.0)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update=QUICK_RESCUE)


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task counts as overdue soon after its time and the rescuer's grace are over."""
    monkeypatch.setattr(rescuers, "OUTCOME_SECONDS", OUTCOME_SECONDS)


@pytest.fixture
async def api(service: Service) -> Api:
    await service.maintenance()
    await service.relay()
    return await service.api()


async def lose(service: Service) -> None:
    """Hand what runs to a worker whose lease has lapsed: the one that runs it finds itself fenced out."""
    await service.query(
        "WITH gone AS (INSERT INTO aftercommit.workers"
        " (name, handlers, max_retries, timeout_seconds, lease_seconds, hand_back_seconds, started_at, lease_until)"
        " SELECT 'gone', handlers, max_retries, timeout_seconds, lease_seconds, hand_back_seconds, now(), now()"
        " FROM aftercommit.workers),"
        " claim AS (UPDATE aftercommit.claims SET worker = 'gone')"
        " UPDATE aftercommit.tasks SET worker = 'gone' WHERE status = 'running'"
    )


async def test_task_of_a_lost_worker_is_charged_and_runs_again(api: Api, service: Service) -> None:
    await service.worker()
    task = await api.submit("test.sleep", payload={"seconds": 2})
    await service.until("SELECT status = 'running' FROM aftercommit.tasks")
    await lose(service)
    done = await api.get(task["id"], wait=30)
    first, second = await api.attempts(task["id"])
    assert (first["outcome"], first["error"]["message"]) == ("retried", "worker lost")
    assert (second["outcome"], done["attempt"]) == ("succeeded", 2)
    assert first["worker"] == "gone" != second["worker"]
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.claims)")


async def test_task_fails_when_its_last_attempt_is_lost(api: Api, service: Service) -> None:
    await service.worker(worker_shutdown_seconds=0.5)
    task = await api.submit("test.sleep", payload={"seconds": 30}, max_retries=0)
    await service.until("SELECT status = 'running' FROM aftercommit.tasks")
    await lose(service)
    failed = await api.get(task["id"], wait=30)
    assert (failed["status"], failed["error"]["type"]) == ("failed", "WorkerLost")
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)")
    assert (await api.call("GET", "/v1/queues"))[1]["dead_letters"] == 1


async def test_handlers_own_max_retries_count_for_the_rescuer(api: Api, service: Service) -> None:
    await service.worker(worker_shutdown_seconds=0.5)
    task = await api.submit("test.once", payload={"seconds": 30})
    await service.until("SELECT status = 'running' FROM aftercommit.tasks")
    await lose(service)
    assert (await api.get(task["id"], wait=30))["error"]["type"] == "WorkerLost"


@pytest.mark.usefixtures("strict")
async def test_task_that_outlives_its_timeout_is_taken_away(api: Api, service: Service) -> None:
    await service.worker()
    task = await api.submit("test.stubborn", payload={"seconds": 4}, max_retries=0, timeout_seconds=0.2)
    failed = await api.get(task["id"], wait=30)
    assert (failed["status"], failed["error"]["type"]) == ("failed", "Overdue")


async def take_no_writes(service: Service, *, refused: bool) -> None:
    """What connects from now on finds the database so; when it begins, everything connects anew."""
    async with single_statement(service.engine) as connection:
        await connection.execute(text("SET default_transaction_read_only = off"))
        name, value = service.settings.postgres_db, "on" if refused else "off"
        await connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}'))
        if refused:
            await connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )


async def test_task_survives_a_database_that_takes_no_writes_for_longer_than_a_lease(
    api: Api, service: Service
) -> None:
    await service.worker()
    task = await api.submit("test.sleep", payload={"seconds": 4}, max_retries=0)
    await service.until("SELECT status = 'running' FROM aftercommit.tasks")
    await take_no_writes(service, refused=True)
    await service.until("SELECT max(lease_until) < now() FROM aftercommit.workers")
    await take_no_writes(service, refused=False)
    assert (await api.get(task["id"], wait=30))["status"] == "succeeded"
    assert [attempt["outcome"] for attempt in await api.attempts(task["id"])] == ["released", "succeeded"]


@pytest.mark.usefixtures("strict")
async def test_living_task_is_left_alone_when_its_worker_allows_more_time_than_maintenance(service: Service) -> None:
    await service.maintenance(task_timeout_seconds=0.2, max_retries=0)
    await service.relay()
    api = await service.api()
    await service.worker(task_timeout_seconds=60.0, worker_lease_seconds=60.0)
    task = await api.submit("test.sleep", payload={"seconds": 2})
    done = await api.get(task["id"], wait=30)
    assert (done["status"], done["attempt"]) == ("succeeded", 1)


async def test_task_of_a_lost_worker_has_the_retries_that_its_worker_allows(service: Service) -> None:
    await service.maintenance(max_retries=0)
    await service.relay()
    api = await service.api()
    await service.worker(max_retries=2)
    task = await api.submit("test.sleep", payload={"seconds": 2})
    await service.until("SELECT status = 'running' FROM aftercommit.tasks")
    await lose(service)
    done = await api.get(task["id"], wait=30)
    assert (done["status"], done["attempt"]) == ("succeeded", 2)


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(
    ("handlers", "timeout_seconds", "taken"),
    [
        ({}, 10_000, False),
        ({}, 10, True),
        ({"test": {"timeout_seconds": 10_000, "max_retries": 3}}, 10, False),
        ({"test": {"timeout_seconds": 10, "max_retries": 3}}, 10_000, True),
        ({"test": {"timeout_seconds": True, "max_retries": 3}}, 10_000, False),
    ],
)
async def test_overdue_is_told_by_what_the_worker_resolved(
    handlers: dict[str, Any], timeout_seconds: float, taken: bool, service: Service, rescuer: Rescuer
) -> None:
    await add_worker(service, "alive", handlers=json.dumps(handlers), timeout_seconds=timeout_seconds)
    (task_id,) = ids(1)
    await add_tasks(service, [task_id], Status.RUNNING, worker="alive", sent_seconds_ago=1_000)
    await service.query("UPDATE aftercommit.tasks SET started_at = queued_at")
    assert await rescuer.run_once() == INTERVAL_SECONDS
    assert await statuses(service) == {task_id: "running"}
    await asyncio.sleep(OUTCOME_SECONDS)
    assert await rescuer.run_once() == INTERVAL_SECONDS
    assert await statuses(service) == {task_id: "retrying" if taken else "running"}


@pytest.mark.parametrize(
    ("handlers", "max_retries", "status"),
    [
        ({}, 0, "failed"),
        ({}, 1, "retrying"),
        ({"test": {"max_retries": 0}}, 5, "failed"),
        ({"test": {"max_retries": 10**12}}, 0, "retrying"),
    ],
)
async def test_retries_are_those_that_the_worker_resolved(
    handlers: dict[str, Any], max_retries: int, status: str, service: Service, rescuer: Rescuer
) -> None:
    await add_worker(service, "lost", alive=False, handlers=json.dumps(handlers), max_retries=max_retries)
    (task_id,) = ids(1)
    await add_tasks(service, [task_id], Status.RUNNING, worker="lost")
    await rescuer.run_once()
    assert await statuses(service) == {task_id: status}


async def test_locked_task_holds_up_nobody(service: Service, rescuer: Rescuer) -> None:
    await add_worker(service, "lost", alive=False)
    locked, *others = ids(20)
    await add_tasks(service, [locked, *others], Status.RUNNING, worker="lost")
    async with service.engine.begin() as elsewhere:
        await elsewhere.execute(text(f"SELECT FROM aftercommit.tasks WHERE id = '{locked}' FOR UPDATE"))
        async with asyncio.timeout(10):
            assert await rescuer.run_once() == INTERVAL_SECONDS
        assert await statuses(service) == {locked: "running"} | dict.fromkeys(others, "retrying")
    await rescuer.run_once()
    assert set((await statuses(service)).values()) == {"retrying"}
    assert await service.query("SELECT id FROM aftercommit.claims") == []


async def test_locked_claim_and_lease_hold_up_nobody(service: Service, rescuer: Rescuer) -> None:
    await add_worker(service, "lost", alive=False)
    await add_worker(service, "forgotten", alive=False)
    task_ids = ids(3)
    await add_tasks(service, task_ids, Status.RUNNING, worker="lost")
    await service.query("UPDATE aftercommit.workers SET lease_until = now() - interval '2 hours'")
    async with service.engine.begin() as elsewhere:
        await elsewhere.execute(text("SELECT FROM aftercommit.claims FOR UPDATE"))
        await elsewhere.execute(text("SELECT FROM aftercommit.workers FOR UPDATE"))
        async with asyncio.timeout(10):
            await rescuer.run_once()
        assert await statuses(service) == dict.fromkeys(task_ids, "retrying")
    await rescuer.run_once()
    assert await service.query("SELECT id FROM aftercommit.claims") == []
    assert await service.query("SELECT name FROM aftercommit.workers") == []


async def test_task_whose_rescue_is_refused_holds_up_nobody(service: Service, rescuer: Rescuer) -> None:
    await add_worker(service, "lost", alive=False)
    bad, *others = ids(9)
    await add_tasks(service, [bad, *others], Status.RUNNING, worker="lost")
    await service.query(f"INSERT INTO aftercommit.attempts (task_id, attempt, outcome) VALUES ('{bad}', 1, 'retried')")
    with capture_logs() as logs:
        async with asyncio.timeout(20):
            while await rescuer.run_once() == 0:
                pass
    assert await statuses(service) == {bad: "running"} | dict.fromkeys(others, "retrying")
    (line,) = [line for line in logs if line["event"] == "task_not_rescued"]
    assert line["task_id"] == str(bad)
    assert await rescuer.run_once() == INTERVAL_SECONDS


async def test_statement_that_takes_too_long_is_no_outage(service: Service, rescuer: Rescuer) -> None:
    await add_worker(service, "lost", alive=False, lease_seconds=500.0)
    (task_id,) = ids(1)
    await add_tasks(service, [task_id], Status.RUNNING, worker="lost")
    async with service.engine.begin() as elsewhere:
        await elsewhere.execute(text("LOCK TABLE aftercommit.claims"))
        with pytest.raises(DatabaseTimeout):
            await rescuer.run_once()
    assert await rescuer.run_once() == INTERVAL_SECONDS
    assert await statuses(service) == {task_id: "retrying"}


async def test_after_an_outage_workers_have_their_longest_lease_to_come_back(
    service: Service, rescuer: Rescuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_worker(service, "lost", alive=False, lease_seconds=500.0)
    await add_worker(service, "alive", lease_seconds=20.0)
    (task_id,) = ids(1)
    await add_tasks(service, [task_id], Status.RUNNING, worker="lost")
    with monkeypatch.context() as patch:
        patch.setattr(rescue, "lock_lost", away)
        with pytest.raises(DatabaseUnavailable):
            await rescuer.run_once()
    assert await rescuer.run_once() == 500.0
    assert await statuses(service) == {task_id: "running"}
    await rescuer.run_once()
    assert await statuses(service) == {task_id: "retrying"}


async def away(*_: object, **__: object) -> None:
    raise DatabaseUnavailable("Postgres cannot be reached.")


async def test_lease_that_is_given_back_tells_what_its_claims_need(service: Service, rescuer: Rescuer) -> None:
    (task_id,) = ids(1)
    await add_worker(service, "stopped", max_retries=0)
    await add_tasks(service, [task_id], Status.QUEUED)
    async with DatabaseConnection(service.settings, application="test") as connection:
        await claims.claim(connection.fetch, [TaskRef(task_id, 1)], worker="stopped", claim_id=UUID(int=1))
        await leases.close(connection.fetch, "stopped")
        await rescuer.run_once()
        assert await statuses(service) == {task_id: "failed"}
        await service.query("UPDATE aftercommit.workers SET lease_until = now() - interval '2 hours'")
        await leases.prune(connection.fetch)
    assert await service.query("SELECT name FROM aftercommit.workers") == []


async def test_task_whose_worker_nobody_knows_is_sent_out_again_uncharged(service: Service, rescuer: Rescuer) -> None:
    (task_id,) = ids(1)
    await add_tasks(service, [task_id], Status.RUNNING, worker="unknown")
    await rescuer.run_once()
    assert await statuses(service) == {task_id: "queued"}
