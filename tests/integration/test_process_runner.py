"""Attempts in a process of their own, and tasks that take their worker down."""

import pytest

from aftercommit.core.failures import SUSPICIOUS
from aftercommit.core.settings import Settings
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
        ("hang", "ProcessStuck", "killed 5 s after its timeout"),
    ],
)
async def test_isolated_attempt_that_ends_badly_is_one_failure(api: Api, how: str, error: str, message: str) -> None:
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
        "INSERT INTO aftercommit.outbox (work_queue, task_id, dispatch)"
        " SELECT 'tasks.medium', id, 2 FROM aftercommit.tasks"
    )
    there = (await api.get(plain["id"], wait=30))["result"]
    assert (there != here) is is_apart
