"""The Python clients while the service is restarted, slow, busy, or loses answers: no submit is lost, and none doubled.

What was submitted is counted in PostgreSQL.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest

from aftercommit import AsyncClient, Client, TaskRequest
from aftercommit.client import ServiceUnavailable, SubmittedTask
from aftercommit.core.settings import Settings
from aftercommit.devstack.ports import free_port
from tests.integration.answering_proxy import Trouble, answering_proxy
from tests.integration.conftest import ROOT
from tests.integration.service import Service
from tests.integration.tcp_proxy import TcpProxy
from tests.integration.wheel import environment_of

TROUBLES: Final = (
    Trouble.NONE,
    Trouble.BUSY,
    Trouble.ANSWER_LOST,
    Trouble.NONE,
    Trouble.TOO_MANY,
    Trouble.ANSWER_REPLACED,
    Trouble.NONE,
)
AT_ONCE: Final = 10

pytestmark = pytest.mark.timeout(240)


class ApiProcess:
    """An API in a process of its own, always on the same port."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "api.log"
        self._folder = folder
        changes = {"API_HOST": "127.0.0.1", "API_PORT": str(port), "PYTHONPATH": str(ROOT)}
        self._environment = {**os.environ, **environment_of(settings), **changes}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app.api.run"], cwd=self._folder, env=self._environment, stdout=log, stderr=log
            )

    def stop(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(40)
            self._process = None


@pytest.fixture
def api_process(settings: Settings, tmp_path: Path) -> Iterator[ApiProcess]:
    process = ApiProcess(settings, tmp_path)
    process.start()
    yield process
    process.stop(signal.SIGKILL)


async def submit_all(client: AsyncClient, count: int) -> list[SubmittedTask]:
    """``count`` tasks, ``AT_ONCE`` of them at the same time."""
    places = asyncio.Semaphore(AT_ONCE)

    async def submit(n: int) -> SubmittedTask:
        async with places:
            return await client.submit("echo", {"n": n})

    return await asyncio.gather(*(submit(n) for n in range(count)))


async def assert_each_is_there_once(service: Service, submitted: list[SubmittedTask]) -> None:
    """And in the order in which they were submitted."""
    rows = await service.query("SELECT id, (payload->>'n')::int FROM aftercommit.tasks ORDER BY 2")
    assert [row[1] for row in rows] == list(range(len(submitted)))
    assert [UUID(str(row[0])) for row in rows] == [task.id for task in submitted]


async def test_submits_are_there_once_when_answers_are_refused_replaced_and_lost(service: Service) -> None:
    api = await service.api()
    async with answering_proxy(api.url, *TROUBLES) as proxy, AsyncClient(proxy.url) as client:
        submitted = await submit_all(client, 300)
    assert set(proxy.met) == set(TROUBLES)
    assert {task.submission for task in submitted} == {"created", "replayed"}
    await assert_each_is_there_once(service, submitted)


async def test_blocking_submits_of_many_threads_are_there_once_when_answers_are_lost(service: Service) -> None:
    api = await service.api()
    submitted: dict[int, SubmittedTask] = {}

    def submit(client: Client, first: int) -> None:
        for n in range(first, 100, 4):
            submitted[n] = client.submit("echo", {"n": n})

    async with answering_proxy(api.url, *TROUBLES) as proxy:
        with Client(proxy.url) as client:
            await asyncio.gather(*(asyncio.to_thread(submit, client, first) for first in range(4)))
    await assert_each_is_there_once(service, [submitted[n] for n in sorted(submitted)])


async def test_batches_are_there_once_when_answers_are_lost(service: Service) -> None:
    api = await service.api()
    requests = (TaskRequest("echo", {"n": n}) for n in range(3_000))
    async with answering_proxy(api.url, *TROUBLES) as proxy, AsyncClient(proxy.url) as client:
        submitted = [task async for task in client.submit_many(requests, batch_size=100)]
    assert len(proxy.met) > 30
    await assert_each_is_there_once(service, submitted)


async def test_submits_are_there_once_when_the_api_is_killed_and_restarted_under_load(
    service: Service, api_process: ApiProcess
) -> None:
    async with AsyncClient(api_process.url, timeout=120) as client:
        await client.check_health()
        load = asyncio.create_task(submit_all(client, 2_000))
        for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            before = await count(service)
            await service.until(f"SELECT count(*) > {before + 60} FROM aftercommit.tasks", seconds=60)
            await asyncio.to_thread(api_process.stop, how)
            assert not load.done()
            api_process.start()
        submitted = await load
    await assert_each_is_there_once(service, submitted)


async def count(service: Service) -> int:
    return int((await service.query("SELECT count(*) FROM aftercommit.tasks"))[0][0])


async def test_wait_goes_on_when_the_api_is_restarted(service: Service, api_process: ApiProcess) -> None:
    async with AsyncClient(api_process.url, timeout=120) as client:
        task = await client.submit("echo", {"n": 0})
        waiting = asyncio.create_task(client.result(task, timeout=120))
        await asyncio.sleep(1)
        await asyncio.to_thread(api_process.stop, signal.SIGKILL)
        assert not waiting.done()
        await service.relay()
        await service.worker()
        api_process.start()
        assert await waiting == {"n": 0}


async def test_submits_are_there_once_when_the_service_is_slow(service: Service) -> None:
    address = urlsplit((await service.api()).url)
    assert address.hostname is not None
    assert address.port is not None
    proxy = TcpProxy(address.hostname, address.port)
    proxy.delay_seconds = 0.4
    await proxy.start()
    try:
        # A try ends before its answer comes, although the service has stored the task.
        async with AsyncClient(f"http://127.0.0.1:{proxy.port}", try_timeout=0.6, timeout=60) as client:
            load = asyncio.create_task(submit_all(client, 40))
            await service.until("SELECT count(*) >= 5 FROM aftercommit.tasks")
            assert not load.done()
            proxy.delay_seconds = 0.0
            submitted = await load
    finally:
        await proxy.stop()
    assert "replayed" in {task.submission for task in submitted}
    await assert_each_is_there_once(service, submitted)


async def test_pause_that_an_answer_asks_for_is_kept(service: Service) -> None:
    api = await service.api()
    turns = (Trouble.BUSY, Trouble.NONE)
    async with answering_proxy(api.url, *turns, retry_after="2") as proxy, AsyncClient(proxy.url) as client:
        began = time.monotonic()
        await client.submit("echo", {"n": 0})
    assert time.monotonic() - began >= 2
    assert proxy.met == list(turns)


async def test_call_that_would_do_it_twice_is_not_repeated_when_its_answer_is_lost(service: Service) -> None:
    api = await service.api()
    async with AsyncClient(api.url) as client:
        await client.create_schedule("daily", TaskRequest("echo", {"n": 0}), cron="0 7 * * *")
    async with (
        answering_proxy(api.url, Trouble.TOO_MANY, Trouble.ANSWER_LOST) as proxy,
        AsyncClient(proxy.url) as client,
    ):
        with pytest.raises(ServiceUnavailable, match="was not repeated, since the service may have done it"):
            await client.trigger_schedule("daily")
    assert proxy.met == [Trouble.TOO_MANY, Trouble.ANSWER_LOST]
    assert await count(service) == 1


@pytest.fixture
def nobody() -> str:
    """A URL at which nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


async def test_service_that_is_away_is_unavailable_after_the_time_of_a_call(nobody: str) -> None:
    async with AsyncClient(nobody, timeout=1) as client:
        began = time.monotonic()
        with pytest.raises(ServiceUnavailable) as caught:
            await client.submit("echo", {}, idempotency_key="order-17")
        assert time.monotonic() - began < 5
    assert isinstance(caught.value.__cause__, httpx.ConnectError)
    assert (caught.value.status, caught.value.idempotency_key) == (None, "order-17")
    assert "idempotency_key='order-17'" in str(caught.value)


def test_blocking_client_gives_up_as_well(nobody: str) -> None:
    with Client(nobody, timeout=0.5) as client, pytest.raises(ServiceUnavailable):
        client.check_health()


def test_closed_client_says_so(nobody: str) -> None:
    client = Client(nobody)
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.check_health()


async def test_cancelled_call_ends_at_once(nobody: str) -> None:
    async with AsyncClient(nobody, timeout=60) as client:
        call = asyncio.create_task(client.check_health())
        await asyncio.sleep(0.5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(2):
                await call


async def test_http_client_of_one_s_own_is_used_and_left_open(service: Service) -> None:
    api = await service.api()
    async with answering_proxy(api.url) as proxy, httpx.AsyncClient(headers={"X-Team": "mail"}) as http_client:
        async with AsyncClient(proxy.url, http_client=http_client) as client:
            await client.check_health()
        assert not http_client.is_closed
    assert proxy.seen[0]["X-Team"] == "mail"
