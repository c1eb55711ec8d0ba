"""Code bases share a queue: a task of a type that its worker does not know goes to one that knows it, uncharged."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from aftercommit.core.queues import Priority, WorkQueue
from aftercommit.core.states import Status
from aftercommit.core.task_ref import TaskRef
from aftercommit.db import parked, reconcile
from aftercommit.db.database import Database, DatabaseConnection
from aftercommit.runtime.notifier import Notifier
from aftercommit.server.maintenance import parked_sweeper
from aftercommit.server.maintenance.parked_sweeper import ParkedSweeper
from tests.integration.rows import add_tasks, add_worker, ids
from tests.integration.service import Api, RunningRole, Service

ONE, TWO = (f"tests.integration.code_base_{name}" for name in ("one", "two"))
MEDIUM = WorkQueue("tasks", Priority.MEDIUM)

PARKED = "SELECT count(*) FROM aftercommit.parked_tasks"


@pytest.fixture
async def api(service: Service) -> Api:
    api = await service.api()
    await service.relay()
    return api


async def worker_of(service: Service, *modules: str) -> RunningRole:
    return await service.worker(worker_modules=modules)


async def parks(api: Api, service: Service, count: int = 1) -> list[str]:
    """Tasks that a worker of the first code base has parked."""
    await worker_of(service, ONE)
    tasks = await api.submit_batch([{"type": "two.run"} for _ in range(count)])
    await service.until(f"{PARKED.replace('count(*)', f'count(*) = {count}')}")
    return [task["id"] for task in tasks]


async def test_task_runs_uncharged_as_soon_as_a_worker_knows_its_type(api: Api, service: Service) -> None:
    (task_id,) = await parks(api, service)
    waiting = await api.get(task_id)
    assert (waiting["status"], waiting["error"]["type"]) == ("queued", "UnknownType")
    assert waiting["error"]["message"].endswith(f" has aftercommit.handlers, {ONE}")
    await worker_of(service, TWO)
    started = time.monotonic()
    task = await api.get(task_id, wait=30)
    assert (task["status"], task["result"], task["error"]) == ("succeeded", "two", None)
    assert time.monotonic() - started < 5
    # The first look is an attempt that was released; none is begun after it.
    outcomes = [(each["attempt"], each["outcome"]) for each in await api.attempts(task_id)]
    assert outcomes == [(1, "released"), (2, "succeeded")]
    uncharged = await service.query("SELECT uncharged FROM aftercommit.tasks")
    assert uncharged == [(1,)]


async def test_task_that_is_parked_while_a_worker_that_knows_it_is_idle_runs_within_a_second(
    api: Api, service: Service
) -> None:
    await worker_of(service, TWO)
    await worker_of(service, ONE)
    await api.submit_batch([{"type": "two.run"} for _ in range(50)])
    await service.until_idle()
    began = time.monotonic()
    for _ in range(10):
        task = await api.submit("two.run")
        assert (await api.get(task["id"], wait=10))["status"] == "succeeded"
    assert time.monotonic() - began < 10


async def test_task_that_nobody_knew_for_too_long_fails_and_names_who_looked(api: Api, service: Service) -> None:
    await service.maintenance(unknown_type_seconds=1.0)
    (task_id,) = await parks(api, service)
    task = await api.get(task_id, wait=30)
    (worker,) = (await service.query("SELECT name FROM aftercommit.workers"))[0]
    assert (task["status"], task["error"]["type"], task["attempt"]) == ("failed", "UnknownType", 1)
    assert task["error"]["message"].startswith(
        f"no worker that looked at it has a handler for 'two.run': {worker}, in "
    )
    assert await service.query(PARKED) == [(0,)]
    letters = await service.query("SELECT count(*) FROM aftercommit.tasks WHERE status = 'failed'")
    assert letters == [(1,)]


async def test_failed_one_runs_when_an_operator_sends_it_out_again(api: Api, service: Service) -> None:
    await service.maintenance(unknown_type_seconds=1.0)
    (task_id,) = await parks(api, service)
    await api.get(task_id, wait=30)
    await worker_of(service, TWO)
    status, _ = await api.call("POST", f"/v1/tasks/{task_id}/retry")
    assert status == 200
    assert (await api.get(task_id, wait=30))["status"] == "succeeded"


async def test_two_code_bases_on_one_queue_run_all_their_tasks(api: Api, service: Service) -> None:
    await service.maintenance()
    await worker_of(service, ONE)
    await worker_of(service, TWO)
    for _ in range(4):
        await api.submit_batch([{"type": f"{name}.run", "max_retries": 0} for name in ("one", "two") * 250])
    await service.until_idle()
    rows = await service.query(
        "SELECT type, result #>> '{}' AS result, count(*), max(attempt - uncharged) AS charged FROM aftercommit.tasks"
        " WHERE status = 'succeeded' GROUP BY 1, 2 ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [("one.run", "one", 1_000, 1), ("two.run", "two", 1_000, 1)]
    await service.until(f"SELECT ({PARKED}) = 0")


async def test_high_priority_goes_first_among_parked_ones_too(api: Api, service: Service) -> None:
    await worker_of(service, ONE)
    for priority in ("low", "high"):
        await api.submit_batch([{"type": "two.run", "priority": priority, "payload": {"seconds": 0.05}}] * 20)
        await service.until(f"{PARKED.replace('count(*)', 'count(*) >= 20')} WHERE priority = '{priority}'")
    await service.worker(worker_modules=(TWO,), worker_concurrency=1)
    await service.until_idle()
    rows = await service.query("SELECT priority FROM aftercommit.tasks ORDER BY started_at LIMIT 10 OFFSET 10")
    assert {row[0] for row in rows} == {"high"}


async def test_task_that_a_dead_worker_took_is_taken_again_when_its_hold_is_over(api: Api, service: Service) -> None:
    (task_id,) = await parks(api, service)
    async with DatabaseConnection(service.settings, application="test") as connection:
        taken = await parked.take(connection.fetch, known=["two.run"], room={MEDIUM: 10})
        assert [ref.task_id for ref in taken[MEDIUM]] == [UUID(task_id)]
        assert await parked.take(connection.fetch, known=["two.run"], room={MEDIUM: 10}) == {}
    await worker_of(service, TWO)
    assert (await api.get(task_id, wait=parked.HOLD_SECONDS + 10))["status"] == "succeeded"


async def test_worker_that_stops_leaves_parked_ones_to_the_next(api: Api, service: Service) -> None:
    await parks(api, service, 40)
    worker = await service.worker(worker_modules=(TWO,), worker_concurrency=1)
    await asyncio.sleep(0.1)
    await worker.stop()
    await worker_of(service, TWO)
    await service.until_idle(seconds=20)


async def test_cancelled_one_is_forgotten(api: Api, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parked_sweeper, "INTERVAL_SECONDS", 0.1)
    (task_id,) = await parks(api, service)
    assert (await api.call("POST", f"/v1/tasks/{task_id}/cancel"))[0] == 200
    await service.query("UPDATE aftercommit.parked_tasks SET look_at = now()")
    await service.maintenance()
    await service.until(f"SELECT ({PARKED}) = 0")
    assert (await api.get(task_id))["status"] == "cancelled"


async def park_one(service: Service, connection: DatabaseConnection, *workers: str) -> UUID:
    """A task that these workers looked at and parked, one after the other."""
    (task_id,) = ids(1)
    await add_tasks(service, [task_id], Status.QUEUED, type="two.run")
    for worker in workers:
        found = await parked.park_unknown(connection.fetch, [TaskRef(task_id, 1)], known=["one.run"], worker=worker)
        assert found == {TaskRef(task_id, 1)}
    return task_id


async def test_last_ten_workers_that_looked_are_kept_each_once(service: Service) -> None:
    async with DatabaseConnection(service.settings, application="test") as connection:
        await park_one(service, connection, *(f"w{n}" for n in range(12)), "w11", "w12")
    rows = await service.query("SELECT looks, looked FROM aftercommit.parked_tasks")
    assert [tuple(row) for row in rows] == [(14, [f"w{n}" for n in range(3, 13)])]


async def test_task_that_is_still_parked_is_sent_again_and_shows_who_looked(service: Service) -> None:
    async with DatabaseConnection(service.settings, application="test") as connection:
        task_id = await park_one(service, connection, "one", "two")
        database = await sweep(service)
        assert database == 0
        await connection.fetch("UPDATE aftercommit.parked_tasks SET look_at = now()")
        assert await sweep(service) == 1
        rows = await connection.fetch(
            "SELECT t.status, t.dispatch, t.error ->> 'message' AS message, p.look_at - now() AS wait"
            " FROM aftercommit.tasks t JOIN aftercommit.parked_tasks p ON p.task_id = t.id"
        )
    (row,) = rows
    assert (row["status"], row["dispatch"]) == ("queued", 1)
    assert row["message"] == "no worker that looked at it has a handler for 'two.run': one, two"
    assert timedelta(seconds=15) < row["wait"] <= timedelta(seconds=20)
    sent = await service.query("SELECT task_ids FROM aftercommit.outbox_rows")
    assert sent == [([task_id],)]


async def test_task_whose_type_a_living_worker_knows_is_left_to_it_for_a_minute(service: Service) -> None:
    async with DatabaseConnection(service.settings, application="test") as connection:
        await park_one(service, connection, "one")
        await add_worker(service, "two", alive=True)
        await connection.fetch("UPDATE aftercommit.workers SET handlers = '{\"two.run\": {}}'")
        await connection.fetch("UPDATE aftercommit.parked_tasks SET look_at = now()")
        assert await sweep(service) == 0
        await connection.fetch("UPDATE aftercommit.parked_tasks SET look_at = now(), since = now() - interval '61 s'")
        assert await sweep(service, unknown_type_seconds=3600) == 1


async def sweep(service: Service, *, unknown_type_seconds: float = 60) -> int:
    """One round; how many outbox rows there are then."""
    database = Database(service.settings, application="test", size=1)
    notifier = Notifier(DatabaseConnection(service.settings, application="test"))
    await ParkedSweeper(database, notifier, unknown_type_seconds=unknown_type_seconds).run_once()
    await database.close()
    ((count,),) = await service.query("SELECT count(*) FROM aftercommit.outbox_rows")
    return int(count)


async def test_reconciler_leaves_parked_tasks_alone(service: Service) -> None:
    async with DatabaseConnection(service.settings, application="test") as connection:
        task_id = await park_one(service, connection, "one")
        later = datetime.now(UTC) + timedelta(hours=1)
        assert await reconcile.resend(connection.fetch, [task_id], before=later) == 0
        await connection.fetch("DELETE FROM aftercommit.parked_tasks")
        assert await reconcile.resend(connection.fetch, [task_id], before=later) == 1


async def test_worker_without_unknown_types_parks_nothing_and_claims_as_ever(
    api: Api, service: Service, sent: list[str]
) -> None:
    """What a task does not use costs it nothing."""
    await worker_of(service, ONE)
    await api.submit_batch([{"type": "one.run"} for _ in range(50)])
    await service.until_idle()
    assert not [statement for statement in sent if "INSERT INTO aftercommit.parked_tasks" in statement]
