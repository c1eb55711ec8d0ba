"""``context.transaction()``: a handler's writes are the task's completion."""

import pytest

from tests.integration.service import Api, Service


@pytest.fixture
async def api(service: Service) -> Api:
    await service.relay()
    return await service.api()


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
