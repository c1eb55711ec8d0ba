"""Deadlines: what waits is ended by the expirer, what runs is cut by its worker, and nothing is started too late."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from aftercommit.core.settings import Settings
from aftercommit.core.states import Status
from aftercommit.db.database import Database
from aftercommit.server.maintenance import expirer as expirers
from aftercommit.server.maintenance.expirer import Expirer
from tests.integration.rows import add_tasks, ids
from tests.integration.service import Api, Service

EXPIRED = "SELECT id FROM aftercommit.tasks WHERE status = 'expired'"


@pytest.fixture
async def expirer(settings: Settings) -> AsyncIterator[Expirer]:
    database = Database(settings, application="test")
    yield Expirer(database)
    await database.close()


async def expiring(service: Service, count: int, status: Status, *, seconds_ago: float) -> list[Any]:
    """Tasks whose deadline passed so long ago."""
    made = ids(count, seconds_ago=seconds_ago)
    await add_tasks(
        service, made, status, worker="somebody", due_seconds_ago=-60 if status is Status.SCHEDULED else None
    )
    await service.query(
        f"UPDATE aftercommit.tasks SET expires_at = now() - interval '{seconds_ago} seconds' WHERE id = ANY(:ids)",
        ids=made,
    )
    return made


async def test_waiting_tasks_expire_once_from_any_number_of_expirers(
    service: Service, expirer: Expirer, settings: Settings
) -> None:
    waiting = [
        *await expiring(service, 900, Status.QUEUED, seconds_ago=1),
        *await expiring(service, 900, Status.RETRYING, seconds_ago=2),
        *await expiring(service, 700, Status.SCHEDULED, seconds_ago=3),
    ]
    await expiring(service, 1, Status.QUEUED, seconds_ago=-60)
    await expiring(service, 1, Status.RUNNING, seconds_ago=4)
    database = Database(settings, application="test")
    other = Expirer(database)
    async with asyncio.timeout(60):
        while len(await service.query(EXPIRED)) < len(waiting):
            await asyncio.gather(expirer.run_once(), other.run_once())
    await database.close()
    assert sorted(row.id for row in await service.query(EXPIRED)) == sorted(waiting)
    rows = await service.query(
        "SELECT DISTINCT error ->> 'type' AS type FROM aftercommit.tasks WHERE finished_at > 'epoch'"
    )
    assert [row.type for row in rows] == ["Expired"]


async def test_locked_task_holds_up_nobody_and_is_not_asked_for_without_a_pause(
    service: Service, expirer: Expirer
) -> None:
    locked, *others = await expiring(service, 20, Status.QUEUED, seconds_ago=5)
    async with service.engine.begin() as elsewhere:
        await elsewhere.execute(text(f"SELECT FROM aftercommit.tasks WHERE id = '{locked}' FOR UPDATE"))
        async with asyncio.timeout(10):
            assert await expirer.run_once() == expirers.INTERVAL_SECONDS
        assert {row.id for row in await service.query(EXPIRED)} == set(others)
    await expirer.run_once()
    assert len(await service.query(EXPIRED)) == 20


async def test_next_round_comes_when_the_next_deadline_passes(service: Service, expirer: Expirer) -> None:
    await expiring(service, 1, Status.QUEUED, seconds_ago=-0.5)
    assert 0 < await expirer.run_once() <= 0.5
    assert await service.query(EXPIRED) == []


async def test_what_expired_long_ago_is_left_to_the_sweep_after_the_first_round(
    service: Service, expirer: Expirer
) -> None:
    await expirer.run_once()
    await expiring(service, 3, Status.RETRYING, seconds_ago=600)
    await expirer.run_once()
    assert await service.query(EXPIRED) == []
    await expirer.sweep()
    assert len(await service.query(EXPIRED)) == 3


@pytest.fixture
async def api(service: Service) -> Api:
    await service.maintenance(rescue_interval_seconds=0.2)
    await service.relay()
    return await service.api()


async def end(api: Api, type: str, **fields: Any) -> dict[str, Any]:
    task = await api.submit(type, **fields)
    return await api.get(task["id"], wait=30)


def lived_seconds(task: dict[str, Any]) -> float:
    return (datetime.fromisoformat(task["finished_at"]) - datetime.fromisoformat(task["created_at"])).total_seconds()


async def test_waiting_task_expires_wherever_it_waits_and_never_starts(api: Api, service: Service) -> None:
    in_ = 1.0
    queued, scheduled = (
        await api.submit("echo", expires_in_seconds=in_),
        await api.submit("echo", delay_seconds=0.9, expires_in_seconds=in_),
    )
    for task in (queued, scheduled):
        assert datetime.fromisoformat(task["expires_at"]) - datetime.fromisoformat(task["created_at"]) == timedelta(
            seconds=in_
        )
        done = await api.get(task["id"], wait=10)
        assert (done["status"], done["attempt"], done["error"]["type"]) == ("expired", 0, "Expired")
        assert in_ <= lived_seconds(done) < in_ + 3
    await service.worker()  # gets the message of the first
    assert (await end(api, "echo"))["status"] == "succeeded"
    assert (await api.get(queued["id"]))["attempt"] == 0
    _, overview = await api.call("GET", "/v1/queues")
    assert [queue["failed"] for queue in overview["queues"]] == [0, 0, 0]


async def test_claim_starts_nothing_whose_deadline_has_passed(service: Service) -> None:
    """No expirer runs here."""
    await service.relay()
    api = await service.api()
    task = await api.submit("echo", expires_in_seconds=0.2)
    await asyncio.sleep(0.3)
    await service.worker()
    assert (await end(api, "echo"))["status"] == "succeeded"
    late = await api.get(task["id"])
    assert (late["status"], late["attempt"]) == ("queued", 0)


@pytest.mark.parametrize(
    ("type", "payload"),
    [
        ("test.sleep", {"seconds": 60}),
        ("test.block", {"seconds": 8}),
        ("test.isolated_sleep", {"seconds": 60}),
    ],
)
async def test_running_task_is_cut_at_its_deadline(
    api: Api, service: Service, type: str, payload: dict[str, Any]
) -> None:
    await service.worker(worker_shutdown_seconds=0.5)
    await end(api, "echo")  # the worker is up
    task = await end(api, type, payload=payload, expires_in_seconds=2)
    assert (task["status"], task["attempt"], task["error"]["type"]) == ("expired", 1, "Expired")
    assert 2 <= lived_seconds(task) < 7
    (attempt,) = await api.attempts(task["id"])
    assert attempt["outcome"] == "expired"


async def test_task_that_waits_for_a_transaction_is_cut_at_its_deadline(api: Api, service: Service) -> None:
    """Its timeout stands meanwhile, its deadline does not."""
    await service.query("CREATE TABLE effects (task_id uuid)")
    await service.worker(worker_transaction_pool=1)
    await api.submit("test.hold_transaction", payload={"seconds": 5})
    await service.until("SELECT status = 'running' FROM aftercommit.tasks")
    await asyncio.sleep(0.2)
    task = await end(api, "test.transactional", payload={"fail": False}, expires_in_seconds=2)
    assert (task["status"], task["attempt"], lived_seconds(task) < 4.5) == ("expired", 1, True)
    assert await service.query("SELECT task_id FROM effects") == []


async def test_retry_that_would_start_after_the_deadline_waits_and_expires(api: Api, service: Service) -> None:
    await service.worker()
    await end(api, "echo")
    task = await end(api, "test.fail_until", payload={"attempt": 2, "after": 60}, expires_in_seconds=2)
    assert (task["status"], task["attempt"], task["due_at"]) == ("expired", 1, None)
    assert 2 <= lived_seconds(task) < 10
    assert [attempt["outcome"] for attempt in await api.attempts(task["id"])] == ["retried"]


async def test_task_of_a_lost_worker_expires_when_its_deadline_has_passed(api: Api, service: Service) -> None:
    worker = await service.worker()
    task = await api.submit("test.block", payload={"seconds": 2})
    await service.until("SELECT status = 'running' FROM aftercommit.tasks")
    await service.query(
        "WITH gone AS (UPDATE aftercommit.workers SET lease_until = now())"
        " UPDATE aftercommit.tasks SET expires_at = now()"
    )
    task = await api.get(task["id"], wait=10)
    assert (task["status"], task["attempt"], task["error"]["type"]) == ("expired", 1, "Expired")
    await worker.stop()


async def test_deadline_that_leaves_no_time_is_refused_by_its_field(service: Service) -> None:
    api = await service.api()
    bodies: list[tuple[dict[str, Any], str]] = [
        ({"expires_at": "2001-01-01T00:00:00Z"}, "#/expires_at"),
        ({"expires_at": "2031-01-01T00:00:00Z", "run_at": "2031-01-01T00:00:01Z"}, "#/expires_at"),
        ({"expires_at": "2031-01-01T00:00:00Z", "expires_in_seconds": 5}, "#/expires_at"),
        ({"expires_in_seconds": 5, "delay_seconds": 5}, "#/expires_in_seconds"),
        ({"expires_in_seconds": 0}, "#/expires_in_seconds"),
        ({"expires_at": "2031-01-01T00:00:00"}, "#/expires_at"),
        ({"expires_at": 5}, "#/expires_at"),
    ]
    for body, pointer in bodies:
        problem = await api.refusal("POST", "/v1/tasks", {"type": "echo", **body})
        assert (problem["status"], problem["errors"][0]["pointer"]) == (422, pointer), body
    batch = {"tasks": [{"type": "echo"}, {"type": "echo", "expires_at": "2001-01-01T00:00:00Z"}]}
    problem = await api.refusal("POST", "/v1/tasks/batch", batch)
    assert problem["errors"][0]["pointer"] == "#/tasks/1/expires_at"
    made = await api.submit("echo", expires_at="2031-01-01T00:00:00+01:00")
    assert made["expires_at"] == "2030-12-31T23:00:00Z"
    assert await api.get(made["id"]) == made
