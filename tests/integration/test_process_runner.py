"""Attempts in a process of their own, and tasks that take their worker down."""

import asyncio
import itertools
import os
from datetime import datetime, timedelta
from typing import Any

import pytest

from aftercommit.core.failures import SUSPICIOUS
from aftercommit.core.settings import Settings
from aftercommit.worker import process_runner
from tests.integration.service import Api, Service


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"worker_shutdown_seconds": 1.0})


@pytest.fixture
async def api(service: Service) -> Api:
    await service.relay()
    await service.worker()
    return await service.api()


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("exit", "ProcessDied", "exited with status 7"),
        ("kill", "ProcessDied", "was killed by SIGKILL"),
        ("raise", "ValueError", "as asked"),
        ("hang", "ProcessStuck", "killed 1 s after its timeout"),
    ],
)
async def test_isolated_attempt_that_ends_badly_is_one_failure(
    api: Api, how: str, error: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_runner, "GRACE_SECONDS", 1.0)
    task = await api.submit("test.isolated", payload={"how": how}, max_retries=0, timeout_seconds=1)
    failed = await api.get(task["id"], wait=40)
    assert (failed["status"], failed["error"]["type"]) == ("failed", error)
    assert message in failed["error"]["message"]
    # The worker is as it was.
    echo = await api.submit("echo")
    assert (await api.get(echo["id"], wait=30))["status"] == "succeeded"


async def test_isolated_attempt_returns_its_result_from_another_process(api: Api, service: Service) -> None:
    await service.query("CREATE TABLE effects (task_id uuid)")
    task = await api.submit("test.isolated", payload={"how": "return"})
    plain = await api.submit("test.pid")
    done, other = await api.get(task["id"], wait=40), await api.get(plain["id"], wait=40)
    assert done["result"] != other["result"]
    assert [str(row.task_id) for row in await service.query("SELECT task_id FROM effects")] == [task["id"]]


@pytest.mark.parametrize(("error", "is_apart"), [("WorkerLost", False), *((error, True) for error in SUSPICIOUS)])
async def test_task_that_may_have_taken_its_workers_down_runs_apart(
    api: Api, service: Service, error: str, is_apart: bool
) -> None:
    plain = await api.submit("test.pid")
    here = (await api.get(plain["id"], wait=30))["result"]
    await service.query(
        "UPDATE aftercommit.tasks SET status = 'retrying', dispatch = 2, finished_at = NULL, result = NULL,"
        " error = json_build_object('type', CAST(:error AS text), 'message', '')",
        error=error,
    )
    await service.query(
        "INSERT INTO aftercommit.outbox_rows (work_queue, task_ids, dispatches)"
        " SELECT 'tasks.medium', ARRAY[id], ARRAY[2] FROM aftercommit.tasks"
    )
    there = (await api.get(plain["id"], wait=30))["result"]
    assert (there != here) is is_apart


@pytest.fixture
def one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_runner, "MOST_PER_CORE", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)


async def submit_isolated(api: Api, count: int, **fields: Any) -> list[dict[str, Any]]:
    one = {"type": "test.isolated_sleep", "max_retries": 0, **fields}
    return await api.submit_batch([one for _ in range(count)])


@pytest.mark.usefixtures("one_place")
async def test_waiting_for_a_process_costs_no_timeout(service: Service) -> None:
    """The last task waits for longer than its timeout, under the eyes of a strict rescuer."""
    await service.maintenance(rescue_interval_seconds=0.1, rescue_overdue_seconds=0.5)
    await service.relay()
    await service.worker()
    api = await service.api()
    tasks = await submit_isolated(api, 6, payload={"seconds": 1}, timeout_seconds=3)
    await service.until("SELECT bool_and(finished_at IS NOT NULL) FROM aftercommit.tasks", seconds=60)
    done = [await api.get(task["id"]) for task in tasks]
    assert [(task["status"], task["attempt"]) for task in done] == [("succeeded", 1)] * 6
    starts = sorted(datetime.fromisoformat(task["started_at"]) for task in done)
    assert all(later - earlier > timedelta(seconds=0.7) for earlier, later in itertools.pairwise(starts))


@pytest.mark.usefixtures("one_place")
async def test_task_that_waits_for_a_process_shows_it_and_is_released_at_shutdown(service: Service) -> None:
    await service.relay()
    api = await service.api()
    worker = await service.worker(worker_shutdown_seconds=20.0)
    await submit_isolated(api, 2, payload={"seconds": 2})
    await service.until("SELECT count(*) = 2 AND count(started_at) = 1 FROM aftercommit.tasks WHERE status = 'running'")
    stopping = asyncio.create_task(worker.stop())
    await service.until("SELECT count(*) = 1 FROM aftercommit.tasks WHERE status = 'queued'", seconds=2)
    await stopping
    rows = await service.query("SELECT status, attempt, uncharged FROM aftercommit.tasks ORDER BY status")
    assert [tuple(row) for row in rows] == [("queued", 1, 1), ("succeeded", 1, 0)]
