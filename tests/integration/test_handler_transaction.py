"""``context.transaction()``: a handler's writes are the task's completion; what it refuses; how handlers share it."""

import asyncio

import pytest

from tests.integration.service import Api, Service

COMMIT_WAITS = (
    "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'aftercommit-handlers'"
    " AND datname = current_database() AND wait_event_type = 'Lock'"
)


@pytest.fixture
async def api(service: Service) -> Api:
    await service.query("CREATE TABLE effects (task_id uuid)")
    await service.relay()
    return await service.api()


async def test_handlers_writes_and_completion_are_one_commit(api: Api, service: Service) -> None:
    await service.worker()
    good = await api.submit("test.transactional", payload={"fail": False})
    bad = await api.submit("test.transactional", payload={"fail": True}, max_retries=0)
    assert (await api.get(good["id"], wait=30))["result"] == "done"
    assert (await api.get(bad["id"], wait=30))["status"] == "failed"
    assert [str(row.task_id) for row in await service.query("SELECT task_id FROM effects")] == [good["id"]]
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.claims)")


async def test_writes_of_a_task_that_was_given_away_are_not_kept(api: Api, service: Service) -> None:
    await service.worker()
    task = await api.submit("test.transactional", payload={"fail": False, "seconds": 1})
    await service.until("SELECT status = 'running' FROM aftercommit.tasks")
    await api.call("POST", f"/v1/tasks/{task['id']}/complete", {"result": "by hand"})
    echo = await api.submit("test.sleep", payload={"seconds": 1.5})
    await api.get(echo["id"], wait=30)
    assert (await api.get(task["id"]))["result"] == "by hand"
    assert await service.query("SELECT task_id FROM effects") == []


async def test_task_whose_transaction_loses_postgres_runs_again_uncharged(api: Api, service: Service) -> None:
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


@pytest.mark.parametrize("how", ["commit", "rollback", "close", "with", "begin", "sync"])
async def test_handler_that_would_end_its_transaction_is_told_what_to_do_and_nothing_is_kept(
    api: Api, service: Service, how: str
) -> None:
    await service.worker()
    task = await api.submit("test.end_transaction", payload={"how": how})
    failed = await api.get(task["id"], wait=30)
    assert (failed["status"], failed["error"]["type"]) == ("failed", "RuntimeError")
    assert "Use session.flush()" in failed["error"]["message"]
    assert await service.query("SELECT task_id FROM effects") == []


@pytest.mark.parametrize("how", ["transaction", "connection", "statement"])
async def test_handler_that_ended_its_transaction_behind_the_session_fails_for_good(
    api: Api, service: Service, how: str
) -> None:
    await service.worker()
    task = await api.submit("test.end_transaction", payload={"how": how}, max_retries=3)
    failed = await api.get(task["id"], wait=30)
    assert (failed["status"], failed["attempt"], failed["error"]["type"]) == ("failed", 1, "Fail")
    assert "ended the transaction" in failed["error"]["message"]


async def test_handler_need_not_send_a_statement_before_it_returns(api: Api, service: Service) -> None:
    await service.worker()
    for write in (False, True):
        task = await api.submit("test.late_transaction", payload={"write": write}, max_retries=0)
        assert (await api.get(task["id"], wait=30))["result"] == "done"
    assert [str(row.task_id) for row in await service.query("SELECT task_id FROM effects")] == [task["id"]]


async def test_savepoint_is_allowed(api: Api, service: Service) -> None:
    await service.worker()
    task = await api.submit("test.savepoint")
    assert (await api.get(task["id"], wait=30))["result"] == "done"
    assert [str(row.task_id) for row in await service.query("SELECT task_id FROM effects")] == [task["id"]]


async def test_transactions_of_a_worker_are_bounded_and_waiting_for_one_costs_no_timeout(
    api: Api, service: Service
) -> None:
    """Ten tasks of a second share two connections: the last waits for four seconds, with a timeout of three."""
    await service.maintenance(rescue_interval_seconds=0.1, rescue_overdue_seconds=0.5)
    await service.worker(worker_transaction_pool=2, worker_concurrency=10)
    tasks = await api.submit_batch(
        [
            {"type": "test.hold_transaction", "payload": {"seconds": 1}, "timeout_seconds": 3, "max_retries": 0}
            for _ in range(10)
        ]
    )
    most = 0
    async with asyncio.timeout(60):
        while not (await service.query("SELECT bool_and(finished_at IS NOT NULL) FROM aftercommit.tasks"))[0][0]:
            (row,) = await service.query(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'aftercommit-handlers'"
            )
            most = max(most, row[0])
            await asyncio.sleep(0.05)
    done = [await api.get(task["id"]) for task in tasks]
    assert [(task["status"], task["attempt"]) for task in done] == [("succeeded", 1)] * 10
    assert most == 2
    assert max(task["result"] for task in done) > 2.5


async def test_task_that_waits_for_a_transaction_shows_it(api: Api, service: Service) -> None:
    await service.worker(worker_transaction_pool=1)
    for _ in range(2):
        await api.submit("test.hold_transaction", payload={"seconds": 1})
    await service.until("SELECT count(*) = 2 AND count(started_at) = 1 FROM aftercommit.tasks WHERE status = 'running'")
    await service.until(
        "SELECT count(*) = 2 AND count(started_at) = 2 FROM aftercommit.tasks WHERE status = 'succeeded'"
    )


async def test_commit_waits_for_a_locked_row_instead_of_losing_its_writes(api: Api, service: Service) -> None:
    await service.worker()
    task = await api.submit("test.transactional", payload={"fail": False, "seconds": 0.5})
    await service.until("SELECT status = 'running' FROM aftercommit.tasks")
    async with service.engine.begin() as elsewhere:
        await elsewhere.exec_driver_sql("SELECT FROM aftercommit.tasks FOR UPDATE")
        await service.until(COMMIT_WAITS)
    assert (await api.get(task["id"], wait=30))["status"] == "succeeded"
    assert [str(row.task_id) for row in await service.query("SELECT task_id FROM effects")] == [task["id"]]
    assert len(await api.attempts(task["id"])) == 1


async def test_task_whose_row_changes_under_its_commit_runs_again_and_its_writes_are_kept_once(
    api: Api, service: Service
) -> None:
    """The commit waits for the row and does not see what became of it: it keeps nothing, and nobody is charged."""
    await service.worker()
    task = await api.submit("test.transactional", payload={"fail": False, "seconds": 0.5}, max_retries=0)
    await service.until("SELECT status = 'running' FROM aftercommit.tasks")
    async with service.engine.begin() as elsewhere:
        await elsewhere.exec_driver_sql("UPDATE aftercommit.tasks SET tags = '{changed}'")
        await service.until(COMMIT_WAITS)
    done = await api.get(task["id"], wait=30)
    assert (done["status"], done["tags"]) == ("succeeded", ["changed"])
    assert [attempt["outcome"] for attempt in await api.attempts(task["id"])] == ["released", "succeeded"]
    assert [str(row.task_id) for row in await service.query("SELECT task_id FROM effects")] == [task["id"]]
