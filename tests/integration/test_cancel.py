"""Running tasks are cancelled: once for all, when their code has really stopped, and whatever happens meanwhile."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aftercommit.core.settings import Settings
from aftercommit.runtime.notifier import Notifier
from aftercommit.server.maintenance import rescuer
from aftercommit.worker import cancel_watcher
from tests.integration.service import QUICK_RESCUE, Api, Service

ROOT = Path(__file__).parents[2]
EFFECTS = "SELECT task_id::text FROM effects"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update=QUICK_RESCUE)


@pytest.fixture
async def api(service: Service) -> Api:
    await service.query("CREATE TABLE effects (task_id uuid)")
    await service.relay()
    return await service.api()


async def running(api: Api, service: Service, type: str, **fields: Any) -> str:
    """The id of a new task whose handler has begun."""
    task = await api.submit(type, **fields)
    await service.until(f"SELECT status = 'running' FROM aftercommit.tasks WHERE id = '{task['id']}'")
    await asyncio.sleep(0.1)  # the claim is committed before the handler begins
    return str(task["id"])


async def cancel(api: Api, task_id: str, *, wait: float = 0, **body: Any) -> tuple[int, dict[str, Any]]:
    status, task = await api.call("POST", f"/v1/tasks/{task_id}/cancel?wait={wait}", body or None)
    return status, dict(task)


async def test_async_handler_is_cancelled_within_a_second_and_may_clean_up(api: Api, service: Service) -> None:
    await service.worker()
    task_id = await running(api, service, "test.clean_up", payload={"seconds": 0.3})
    status, task = await cancel(api, task_id, reason="no longer wanted")
    assert (status, task["status"], task["cancelling"], task["finished_at"]) == (202, "running", True, None)
    status, task = await cancel(api, task_id, wait=1.3)
    assert (status, task["status"], task["cancelling"]) == (200, "cancelled", False)
    assert (task["cancel_reason"], task["error"]["message"]) == ("no longer wanted", "no longer wanted")
    (attempt,) = await api.attempts(task_id)
    assert (attempt["outcome"], attempt["error"]["type"]) == ("cancelled", "Cancelled")


async def test_handler_that_swallows_the_cancel_is_cancelling_until_it_ends_and_cannot_succeed(
    api: Api, service: Service
) -> None:
    await service.worker()
    task_id = await running(api, service, "test.swallow", payload={"seconds": 1.5})
    assert (await cancel(api, task_id, wait=0.8))[0] == 202
    status, task = await cancel(api, task_id, wait=10)
    assert (status, task["status"], task["result"]) == (200, "cancelled", None)


async def test_handler_that_swallows_the_cancel_is_cut_at_its_timeout(api: Api, service: Service) -> None:
    await service.worker()
    task_id = await running(api, service, "test.swallow", payload={"seconds": 60}, timeout_seconds=1.5)
    status, task = await cancel(api, task_id, wait=10)
    assert (status, task["status"], task["attempt"]) == (200, "cancelled", 1)


async def test_thread_is_asked_and_its_task_is_cancelling_until_it_has_returned(api: Api, service: Service) -> None:
    await service.worker()
    task_id = await running(api, service, "test.await_cancel", payload={"seconds": 1.5})
    assert (await cancel(api, task_id, wait=1))[0] == 202
    status, task = await cancel(api, task_id, wait=10)
    assert (status, task["status"], task["result"]) == (200, "cancelled", None)


async def test_neither_timeout_nor_rescuer_ends_a_cancelling_thread_that_runs_on(
    api: Api, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its timeout and the rescuer's grace are over long before it returns, and its slot is taken all the time."""
    monkeypatch.setattr(rescuer, "OUTCOME_SECONDS", 0.3)
    await service.maintenance()
    await service.worker(worker_concurrency=1)
    task_id = await running(api, service, "test.block", payload={"seconds": 3}, timeout_seconds=0.6)
    assert (await cancel(api, task_id))[0] == 202
    other = await api.submit("echo")
    status, task = await cancel(api, task_id, wait=20)
    assert (status, task["status"]) == (200, "cancelled")
    ran = datetime.fromisoformat(task["finished_at"]) - datetime.fromisoformat(task["started_at"])
    assert ran >= timedelta(seconds=3)
    other = await api.get(other["id"], wait=10)
    assert datetime.fromisoformat(other["started_at"]) >= datetime.fromisoformat(task["started_at"]) + timedelta(
        seconds=3
    )


async def test_isolated_process_is_killed(api: Api, service: Service) -> None:
    await service.worker()
    task_id = await running(api, service, "test.isolated_sleep", payload={"seconds": 60})
    status, task = await cancel(api, task_id, wait=5)
    assert (status, task["status"]) == (200, "cancelled")


async def test_cancel_is_heard_without_a_notification(
    api: Api, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancel_watcher, "INTERVAL_SECONDS", 0.3)
    monkeypatch.setattr(Notifier, "cancels", lambda _: None)
    await service.worker()
    task_id = await running(api, service, "test.sleep", payload={"seconds": 60})
    status, task = await cancel(api, task_id, wait=10)
    assert (status, task["status"]) == (200, "cancelled")


async def test_cancelling_task_of_a_worker_that_died_is_cancelled_and_not_run_again(api: Api, service: Service) -> None:
    await service.maintenance()
    async with worker_process(service) as process:
        task_id = await running(api, service, "test.block", payload={"seconds": 60})
        assert (await cancel(api, task_id, wait=0.5))[0] == 202
        process.kill()
        status, task = await cancel(api, task_id, wait=20)
    assert (status, task["status"], task["attempt"]) == (200, "cancelled", 1)


async def test_cancelling_thread_outlives_its_worker_s_stop_and_its_task_waits_for_the_lease(
    api: Api, service: Service
) -> None:
    await service.maintenance()
    worker = await service.worker(worker_shutdown_seconds=0.2)
    task_id = await running(api, service, "test.block", payload={"seconds": 2})
    assert (await cancel(api, task_id))[0] == 202
    await worker.stop()
    task = await api.get(task_id)
    assert (task["status"], task["cancelling"]) == ("running", True)
    (lease,) = await service.query("SELECT lease_until > now() AS held FROM aftercommit.workers")
    assert lease.held
    status, task = await cancel(api, task_id, wait=20)
    assert (status, task["status"], task["attempt"]) == (200, "cancelled", 1)


async def test_transaction_is_committed_or_its_task_is_cancelled_when_a_cancel_races_its_end(
    api: Api, service: Service
) -> None:
    """Who asks within the milliseconds of the commit learns which of the two it is, and that stays so."""
    await service.worker(worker_transaction_pool=10)
    rng = random.Random(7)
    answers: dict[str, int] = {}

    async def race() -> None:
        task = await api.submit("test.transactional", payload={"fail": False, "seconds": rng.uniform(0, 0.02)})
        await asyncio.sleep(rng.uniform(0, 0.3))
        answers[task["id"]], _ = await api.call("POST", f"/v1/tasks/{task['id']}/cancel")

    for _ in range(30):
        await asyncio.gather(*(race() for _ in range(10)))
    await service.until_idle()
    statuses = {str(row.id): row.status for row in await service.query("SELECT id, status FROM aftercommit.tasks")}
    assert {statuses[id_] for id_, code in answers.items() if code in (200, 202)} == {"cancelled"}
    assert {statuses[id_] for id_, code in answers.items() if code == 409} == {"succeeded"}
    assert {200, 202, 409} == set(answers.values())
    kept = [row.task_id for row in await service.query(EFFECTS)]
    assert sorted(kept) == sorted(id_ for id_, status in statuses.items() if status == "succeeded")
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.claims)")


TASKS = 1_000


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kills", [False, True], ids=["all workers live", "a worker is killed meanwhile"])
async def test_thousand_running_tasks_are_cancelled_at_once(api: Api, service: Service, kills: bool) -> None:
    """None succeeds and no transaction commits after the request, whether the worker lives or not."""
    await service.maintenance()
    async with AsyncExitStack() as stack:
        # A lease that a busy machine does not cost them.
        options = {"worker_concurrency": TASKS // 2, "worker_lease_seconds": 8.0}
        doomed, _ = [await stack.enter_async_context(worker_process(service, **options)) for _ in range(2)]
        tasks = await api.submit_batch(
            [{"type": "test.sleep_then_write", "payload": {"seconds": 60}} for _ in range(TASKS)]
        )
        await service.until("SELECT count(*) = 1000 FROM aftercommit.tasks WHERE status = 'running'", seconds=60)
        # The server closes a connection that rested for seconds, which a busy client may hear too late.
        unrested = aiohttp.TCPConnector(force_close=True)
        fresh = Api(api.url, await stack.enter_async_context(aiohttp.ClientSession(connector=unrested)))
        cancels = asyncio.gather(*(cancel(fresh, task["id"], reason="all of them") for task in tasks))
        if kills:
            await service.until("SELECT count(*) > 0 FROM aftercommit.tasks WHERE status = 'cancelled'")
            doomed.kill()
        # What the dead worker ran may wait for its retry before its cancel comes.
        assert {status for status, _ in await cancels} <= ({200, 202} if kills else {202})
        asked = asyncio.get_running_loop().time()
        await service.until_idle(seconds=30)
        ended = asyncio.get_running_loop().time()
        assert ended - asked < (15 if kills else 2)
    rows = await service.query(
        "SELECT status, error ->> 'message' AS reason, count(*) FROM aftercommit.tasks GROUP BY 1, 2"
    )
    assert [tuple(row) for row in rows] == [("cancelled", "all of them", TASKS)]
    assert await service.query(EFFECTS) == []
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.claims)")


@asynccontextmanager
async def worker_process(service: Service, **changes: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker that can be killed. It has taken its lease; at the end of the block it is killed."""
    settings = service.settings_of("worker", **changes)
    environment = {
        name.upper(): ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for name, value in settings.model_dump(exclude_none=True, exclude={"worker_queues"}).items()
        if name in settings.model_fields_set
    }
    before = "SELECT count(*) FROM aftercommit.workers WHERE lease_until > now()"
    (leases,) = await service.query(before)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.workers.run", cwd=ROOT, env={"PATH": os.environ["PATH"], **environment}
    )
    try:
        await service.until(f"SELECT ({before}) > {leases[0]}")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
