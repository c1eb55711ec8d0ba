"""Tasks that take their worker's process down, or make it unfit: one visible failure, and what it costs the others."""

import asyncio
import functools
import os
import resource
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from aftercommit.core.settings import Settings
from tests.integration.service import Api, Service

ROOT = Path(__file__).parents[2]
MEMORY_BYTES = 4 * 2**30


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"rescue_interval_seconds": 0.2})


@pytest.fixture
async def api(service: Service) -> Api:
    await service.maintenance()
    await service.relay()
    return await service.api()


class WorkerProcess:
    """A real worker with bounded memory, started again whenever it ends. ``ends`` are the exit codes of its lives."""

    def __init__(self, settings: Settings) -> None:
        self.ends: list[int] = []
        self._process: Process | None = None
        self._environment = {
            "PATH": os.environ["PATH"],
            "POSTGRES_HOST": settings.postgres_host,
            "POSTGRES_PORT": str(settings.postgres_port),
            "POSTGRES_USER": settings.postgres_user,
            "POSTGRES_PASSWORD": settings.postgres_password,
            "POSTGRES_DB": settings.postgres_db,
            "RABBITMQ_URL": settings.rabbitmq_url,
            "MAX_RETRIES": str(settings.max_retries),
            "RETRY_DELAYS_SECONDS": "1,2",
            "WORKER_MODULES": "tests.integration.handlers",
            "WORKER_LEASE_SECONDS": "2",
            "WORKER_LEASE_RENEW_SECONDS": "0.5",
            "WORKER_SHUTDOWN_SECONDS": "1",
            "LOG_LEVEL": "warning",
        }

    async def keep(self) -> None:
        limit = functools.partial(resource.setrlimit, resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        while True:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "app.workers.run", cwd=ROOT, env=self._environment, preexec_fn=limit
            )
            self.ends.append(await self._process.wait())

    async def stop(self) -> int:
        """As a deploy does; its exit code."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.terminate()
        async with asyncio.timeout(10):
            return await self._process.wait()


@pytest.fixture
async def worker(settings: Settings, api: Api) -> AsyncIterator[WorkerProcess]:
    kept = WorkerProcess(settings)
    keeping = asyncio.create_task(kept.keep())
    yield kept
    keeping.cancel()
    await asyncio.wait([keeping])
    await kept.stop()


async def test_task_that_kills_its_worker_fails_visibly_and_costs_its_neighbours_one_attempt(
    api: Api, service: Service, worker: WorkerProcess
) -> None:
    """One worker runs them all, so that the neighbours are beside it whenever they can be."""
    neighbours = [{"type": "test.sleep", "payload": {"seconds": 1.0}} for _ in range(12)]
    (*_, poison) = await api.submit_batch([*neighbours, {"type": "test.kill"}])
    failed = await api.get(poison["id"], wait=60)
    attempts = [(attempt["outcome"], attempt["error"]["type"]) for attempt in await api.attempts(poison["id"])]
    assert attempts == [
        ("retried", "WorkerLost"),
        ("released", "WorkerLostAgain"),
        ("retried", "ProcessDied"),
        ("failed", "ProcessDied"),
    ]
    assert "was killed by SIGKILL" in failed["error"]["message"]
    await service.until_idle()
    (row,) = await service.query(
        "SELECT bool_and(status = 'succeeded'), max(attempt - uncharged) FROM aftercommit.tasks"
        " WHERE type = 'test.sleep'"
    )
    assert tuple(row) == (True, 2)
    assert worker.ends == [-9, -9]


@pytest.mark.parametrize("type", ["test.hoard", "test.isolated_hoard"])
async def test_task_that_exhausts_memory_fails_visibly_beside_its_neighbours(
    api: Api, service: Service, worker: WorkerProcess, type: str
) -> None:
    neighbours = [{"type": "test.sleep", "payload": {"seconds": 1.0}} for _ in range(5)]
    (*_, poison) = await api.submit_batch([*neighbours, {"type": type, "max_retries": 0}])
    failed = await api.get(poison["id"], wait=60)
    assert (failed["status"], failed["error"]["type"]) == ("failed", "MemoryError")
    await service.until_idle()
    (row,) = await service.query(
        "SELECT bool_and(status = 'succeeded'), max(attempt) FROM aftercommit.tasks WHERE type = 'test.sleep'"
    )
    assert tuple(row) == (True, 1)
    assert worker.ends == []


async def test_threads_that_a_task_leaves_behind_do_not_keep_the_worker_alive(
    api: Api, service: Service, worker: WorkerProcess
) -> None:
    leak = await api.submit("test.leak_threads", payload={"most": 20})
    assert (await api.get(leak["id"], wait=30))["status"] == "succeeded"
    block = await api.submit("test.block")
    assert (await api.get(block["id"], wait=30))["status"] == "succeeded"
    assert await worker.stop() == 0


async def test_worker_that_can_start_no_more_threads_makes_room_for_a_new_one(
    api: Api, service: Service, worker: WorkerProcess
) -> None:
    # With stacks this large few fit, and enough memory is left for all else.
    poison = await api.submit("test.leak_threads", payload={"stack_bytes": 2**29}, max_retries=0)
    failed = await api.get(poison["id"], wait=30)
    assert (failed["error"]["type"], failed["error"]["message"]) == ("RuntimeError", "can't start new thread")
    neighbour = await api.submit("test.block", max_retries=0)
    assert (await api.get(neighbour["id"], wait=30))["status"] == "succeeded"
    assert [attempt["outcome"] for attempt in await api.attempts(neighbour["id"])] == ["released", "succeeded"]
    assert worker.ends == [0]
