"""Leases, the rescuer, the reconciler, and handlers whose writes are the task's completion."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from aftercommit.core.settings import Settings
from aftercommit.devstack.servers import Servers
from tests.integration.service import Api, Service, single_statement


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "worker_lease_seconds": 3.0,
            "worker_lease_renew_seconds": 0.5,
            "rescue_interval_seconds": 0.2,
            "rescue_overdue_seconds": 0.5,
            "reconcile_interval_seconds": 0.3,
            "reconcile_after_seconds": 1.0,
        }
    )


@pytest.fixture
async def api(service: Service) -> Api:
    await service.maintenance()
    await service.relay()
    return await service.api()


async def lose(service: Service) -> None:
    """Hand what runs to a worker whose lease has lapsed: the one that runs it finds itself fenced out."""
    await service.query(
        "WITH gone AS (INSERT INTO aftercommit.workers SELECT 'gone', handlers, now(), now() FROM aftercommit.workers),"
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
    await service.worker()
    task = await api.submit("test.sleep", payload={"seconds": 30}, max_retries=0)
    await service.until("SELECT status = 'running' FROM aftercommit.tasks")
    await lose(service)
    failed = await api.get(task["id"], wait=30)
    assert (failed["status"], failed["error"]["type"]) == ("failed", "WorkerLost")
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox)")
    assert (await api.call("GET", "/v1/queues"))[1]["dead_letters"] == 1


async def test_handlers_own_max_retries_count_for_the_rescuer(api: Api, service: Service) -> None:
    await service.worker()
    task = await api.submit("test.once", payload={"seconds": 30})
    await service.until("SELECT status = 'running' FROM aftercommit.tasks")
    await lose(service)
    assert (await api.get(task["id"], wait=30))["error"]["type"] == "WorkerLost"


async def test_task_that_outlives_its_timeout_is_taken_away(api: Api, service: Service) -> None:
    await service.worker()
    task = await api.submit("test.stubborn", max_retries=0, timeout_seconds=0.2)
    failed = await api.get(task["id"], wait=30)
    assert (failed["status"], failed["error"]["type"]) == ("failed", "Overdue")


async def test_lease_is_kept_while_a_handler_blocks_the_loop(service: Service) -> None:
    # The handler blocks this test's own loop too, so the database alone can tell.
    task_id = "00000000-0000-7000-8000-000000000001"
    worker = await service.worker()
    await service.relay()
    await service.until("SELECT count(*) = 1 FROM aftercommit.workers")
    await service.query(
        "WITH t AS (INSERT INTO aftercommit.tasks (id, type, queue, priority, status, payload)"
        f" VALUES ('{task_id}', 'test.hog', 'tasks', 'high', 'queued', '{{\"seconds\": 4}}'))"
        f" INSERT INTO aftercommit.outbox (work_queue, task_id, dispatch) VALUES ('tasks.high', '{task_id}', 1)"
    )
    await service.until("SELECT status = 'succeeded' FROM aftercommit.tasks")
    (row,) = await service.query("SELECT count(*), min(lease_until) > now() FROM aftercommit.workers")
    assert tuple(row) == (1, True)
    await worker.stop()
    assert await service.query("SELECT name FROM aftercommit.workers") == []


async def wait_until_rung(service: Service) -> None:
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox)")


async def test_tasks_whose_messages_were_wiped_are_rung_again(api: Api, service: Service, servers: Servers) -> None:
    await api.submit_batch([{"type": "echo"} for _ in range(500)])
    await wait_until_rung(service)
    vhost = service.settings.rabbitmq_url.rsplit("/", 1)[1]
    servers.rabbitmq.delete_vhost(vhost)
    servers.rabbitmq.create_vhost(vhost)
    await service.worker()
    await service.until_idle(seconds=30)
    (row,) = await service.query(
        "SELECT count(*), max(attempt), max(dispatch) FROM aftercommit.tasks WHERE status = 'succeeded'"
    )
    assert tuple(row) == (500, 1, 1)


async def test_task_that_was_passed_over_is_rung_again_while_others_wait(
    api: Api, service: Service, servers: Servers
) -> None:
    lost = await api.submit("echo")
    await wait_until_rung(service)
    vhost = service.settings.rabbitmq_url.rsplit("/", 1)[1]
    servers.rabbitmq.management.call("DELETE", f"/api/queues/{vhost}/tasks.medium/contents")
    # A queue that is never empty: more waits than this worker runs.
    await service.worker(worker_concurrency=1, worker_prefetch=1)
    await feed(api, service, lost)
    assert (await api.get(lost["id"], wait=20))["status"] == "succeeded"


async def feed(api: Api, service: Service, lost: dict[str, Any]) -> None:
    """Keep the queue filled until the lost task has run."""
    async with asyncio.timeout(30):
        while (await api.get(lost["id"]))["status"] != "succeeded":
            await api.submit_batch([{"type": "test.sleep", "payload": {"seconds": 0.02}} for _ in range(40)])
            await service.until("SELECT count(*) < 80 FROM aftercommit.tasks WHERE finished_at IS NULL")


async def test_nothing_is_rung_again_while_messages_wait_and_nobody_consumes(api: Api, service: Service) -> None:
    await api.submit_batch([{"type": "echo"} for _ in range(200)])
    await wait_until_rung(service)
    await service.query("UPDATE aftercommit.tasks SET queued_at = queued_at - interval '1 hour'")
    before = await rounds(service)
    # Some rounds later nothing was sent.
    await service.until(f"SELECT xact_commit > {before + 60} FROM pg_stat_database WHERE datname = current_database()")
    (row,) = await service.query(
        "SELECT count(*) FROM aftercommit.tasks WHERE queued_at > now() - interval '30 minutes'"
    )
    assert row[0] == 0


async def rounds(service: Service) -> int:
    rows = await service.query("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
    return int(rows[0][0])


async def test_handlers_writes_and_completion_are_one_commit(api: Api, service: Service) -> None:
    await service.query("CREATE TABLE effects (task_id uuid)")
    await service.worker()
    good = await api.submit("test.transactional", payload={"fail": False})
    bad = await api.submit("test.transactional", payload={"fail": True}, max_retries=0)
    assert (await api.get(good["id"], wait=30))["result"] == "done"
    assert (await api.get(bad["id"], wait=30))["status"] == "failed"
    assert [str(row.task_id) for row in await service.query("SELECT task_id FROM effects")] == [good["id"]]
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.claims)")


async def test_writes_of_a_task_that_was_given_away_are_not_kept(api: Api, service: Service) -> None:
    await service.query("CREATE TABLE effects (task_id uuid)")
    await service.worker()
    task = await api.submit("test.transactional", payload={"fail": False, "seconds": 1})
    await service.until("SELECT status = 'running' FROM aftercommit.tasks")
    await api.call("POST", f"/v1/tasks/{task['id']}/complete", {"result": "by hand"})
    echo = await api.submit("test.sleep", payload={"seconds": 1.5})
    await api.get(echo["id"], wait=30)
    assert (await api.get(task["id"]))["result"] == "by hand"
    assert await service.query("SELECT task_id FROM effects") == []


async def test_task_whose_transaction_loses_postgres_runs_again_uncharged(api: Api, service: Service) -> None:
    await service.query("CREATE TABLE effects (task_id uuid)")
    await service.worker()
    task = await api.submit("test.transactional", payload={"fail": False, "seconds": 1}, max_retries=0)
    await service.until(
        "SELECT count(pg_terminate_backend(pid)) = 1 FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'aftercommit-handlers'"
        " AND state = 'idle in transaction' AND query LIKE '%effects%'"
    )
    assert (await api.get(task["id"], wait=30))["status"] == "succeeded"
    assert [attempt["outcome"] for attempt in await api.attempts(task["id"])] == ["released", "succeeded"]
    assert [str(row.task_id) for row in await service.query("SELECT task_id FROM effects")] == [task["id"]]


async def test_transaction_is_refused_in_a_sync_handler(api: Api, service: Service) -> None:
    await service.worker()
    task = await api.submit("test.sync_transaction", max_retries=0)
    assert "needs an async handler" in (await api.get(task["id"], wait=30))["error"]["message"]


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


async def test_worker_that_lost_its_lease_releases_its_tasks_and_goes_on_under_a_new_name(service: Service) -> None:
    api = await service.api()
    await service.relay()
    await service.worker()
    task = await api.submit("test.sleep", payload={"seconds": 3}, max_retries=0)
    await service.until("SELECT status = 'running' FROM aftercommit.tasks")
    (before,) = await service.query("SELECT worker FROM aftercommit.tasks")
    await service.query("DELETE FROM aftercommit.workers WHERE name = :name", name=before.worker)
    done = await api.get(task["id"], wait=30)
    assert [attempt["outcome"] for attempt in await api.attempts(task["id"])] == ["released", "succeeded"]
    assert done["worker"] != before.worker
