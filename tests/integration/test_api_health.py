"""Health, and the API while Postgres or RabbitMQ is away. The servers themselves are never stopped here."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from yarl import URL

from aftercommit.devstack.ports import free_port
from aftercommit.server.api import readiness
from tests.integration.service import Api, Service
from tests.integration.tcp_proxy import TcpProxy

TASK = "0199a3c5-7e4b-7c11-9a55-0d9f4c5be7aa"
DATABASE_CALLS: list[tuple[str, str, Any]] = [
    ("POST", "/v1/tasks", {"type": "echo"}),
    ("POST", "/v1/tasks/batch", {"tasks": [{"type": "echo"}]}),
    ("GET", "/v1/tasks", None),
    ("GET", f"/v1/tasks/{TASK}", None),
    ("GET", f"/v1/tasks/{TASK}/attempts", None),
    ("POST", f"/v1/tasks/{TASK}/cancel", None),
    ("POST", f"/v1/tasks/{TASK}/retry", None),
    ("POST", f"/v1/tasks/{TASK}/complete", {"result": 1}),
    ("GET", "/v1/queues", None),
    ("GET", "/v1/outbox", None),
    ("POST", "/v1/outbox/requeue", {}),
]


PROBE_SECONDS = 0.9
"""What a probe may take, whatever the servers do."""


@pytest.fixture
async def proxy(service: Service) -> AsyncIterator[TcpProxy]:
    """A way to Postgres."""
    made = TcpProxy(service.settings.postgres_host, service.settings.postgres_port)
    yield made
    await made.stop()


@pytest.fixture
async def broker_proxy(service: Service) -> AsyncIterator[TcpProxy]:
    """A way to RabbitMQ."""
    broker = URL(service.settings.rabbitmq_url)
    assert broker.host is not None
    assert broker.port is not None
    made = TcpProxy(broker.host, broker.port)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture(autouse=True)
def quick_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "CHECK_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(readiness, "POSTGRES_SECONDS", 1.5)
    monkeypatch.setattr(readiness, "BROKER_SECONDS", 1.5)


async def behind(service: Service, proxy: TcpProxy) -> Api:
    return await service.api(postgres_host="127.0.0.1", postgres_port=proxy.port)


async def behind_broker(service: Service, proxy: TcpProxy) -> Api:
    url = URL(service.settings.rabbitmq_url).with_host("127.0.0.1").with_port(proxy.port)
    return await service.api(rabbitmq_url=str(url))


async def probe(api: Api) -> tuple[int, dict[str, Any]]:
    """``/readyz``, which answers in no time."""
    async with asyncio.timeout(PROBE_SECONDS):
        status, answer = await api.call("GET", "/readyz")
    return status, answer


async def until_ready_says(api: Api, status: str) -> dict[str, Any]:
    """Probe until ``/readyz`` has this status; its answer."""
    async with asyncio.timeout(20):
        while (found := await probe(api))[1]["status"] != status:
            await asyncio.sleep(0.02)
    assert found[0] == (503 if status == "not ready" else 200)
    return found[1]


async def test_api_is_ready_when_everything_is_up(service: Service) -> None:
    api = await service.api()
    assert (await api.call("GET", "/healthz"))[0] == 204
    up = {"status": "ready", "postgres": "up", "migrations": "up", "broker": "up"}
    assert await until_ready_says(api, "ready") == up


async def test_api_is_degraded_and_takes_tasks_when_the_broker_is_down(service: Service) -> None:
    api = await service.api(rabbitmq_url=f"amqp://127.0.0.1:{free_port()}/")
    await until_ready_says(api, "degraded")
    async with asyncio.timeout(20):
        while not (answer := (await probe(api))[1])["broker"].startswith("RabbitMQ cannot be reached: "):
            await asyncio.sleep(0.02)
    assert answer["postgres"] == "up"
    assert (await api.submit("echo"))["status"] == "queued"


async def test_probes_and_queues_are_quick_when_the_broker_goes_silent(
    service: Service, broker_proxy: TcpProxy
) -> None:
    api = await behind_broker(service, broker_proxy)
    await until_ready_says(api, "ready")
    broker_proxy.silence()
    answer = await until_ready_says(api, "degraded")
    assert answer["broker"] == "RabbitMQ does not answer within 1.5 s."
    async with asyncio.timeout(PROBE_SECONDS):
        _, queues = await api.call("GET", "/v1/queues")
    assert queues["broker"] == answer["broker"]
    assert (queues["dead_letters"], queues["queues"][0]["ready"], queues["queues"][0]["waiting"]) == (None, None, 0)
    assert (await api.submit("echo"))["status"] == "queued"
    broker_proxy.speak()
    await until_ready_says(api, "ready")


async def test_probes_and_queues_are_quick_when_the_broker_never_said_anything(
    service: Service, broker_proxy: TcpProxy
) -> None:
    broker_proxy.silence()
    api = await behind_broker(service, broker_proxy)
    # Nothing is known of the broker yet, so it is asked, for a second.
    async with asyncio.timeout(2):
        _, queues = await api.call("GET", "/v1/queues")
    assert queues["broker"].startswith("RabbitMQ does not answer within 1")
    await until_ready_says(api, "degraded")


async def test_probes_are_quick_when_postgres_goes_silent(service: Service, proxy: TcpProxy) -> None:
    await proxy.start()
    api = await behind(service, proxy)
    await until_ready_says(api, "ready")
    proxy.silence()
    answer = await until_ready_says(api, "not ready")
    assert answer["postgres"] == "Postgres does not answer within 1.5 s."
    proxy.speak()
    await until_ready_says(api, "ready")


async def test_probes_are_quick_when_postgres_never_said_anything(service: Service, proxy: TcpProxy) -> None:
    await proxy.start()
    proxy.silence()
    api = await behind(service, proxy)
    async with asyncio.timeout(20):
        while (await probe(api))[1]["postgres"] != "Postgres does not answer within 1.5 s.":
            await asyncio.sleep(0.02)
    assert (await probe(api))[0] == 503


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("DROP TABLE aftercommit.alembic_version", "at None, this code needs"),
        ("DELETE FROM aftercommit.alembic_version", "at None, this code needs"),
        ("UPDATE aftercommit.alembic_version SET version_num = '0000'", "at 0000, this code needs"),
    ],
)
async def test_api_is_not_ready_when_the_database_is_not_migrated(service: Service, change: str, told: str) -> None:
    api = await service.api()
    await until_ready_says(api, "ready")
    await service.query(change)
    answer = await until_ready_says(api, "not ready")
    assert answer["postgres"] == "up"
    assert answer["migrations"].startswith(told)
    assert "run the migrations" in answer["migrations"]


async def test_api_is_ready_when_the_database_is_a_release_ahead(service: Service) -> None:
    await service.query("UPDATE aftercommit.alembic_version SET version_num = '9999'")
    await until_ready_says(await service.api(), "ready")


async def test_api_says_503_when_it_starts_while_postgres_is_down_and_recovers(
    service: Service, proxy: TcpProxy
) -> None:
    api = await behind(service, proxy)
    assert (await api.call("GET", "/healthz"))[0] == 204
    assert (await until_ready_says(api, "not ready"))["postgres"] != "up"
    for method, path, body in DATABASE_CALLS:
        await assert_unavailable(api, method, path, body)
    await proxy.start()
    assert (await api.submit("echo"))["status"] == "queued"
    await until_ready_says(api, "ready")


async def test_api_recovers_when_postgres_was_away_for_a_while(service: Service, proxy: TcpProxy) -> None:
    await proxy.start()
    api = await behind(service, proxy)
    # As many connections as the pool has.
    await asyncio.gather(*(api.submit("echo") for _ in range(20)))
    await proxy.stop()
    for _ in range(3):
        await assert_unavailable(api, "POST", "/v1/tasks", {"type": "echo"})
    await proxy.start()
    tasks = await asyncio.gather(*(api.submit("echo") for _ in range(20)))
    assert len({task["id"] for task in tasks}) == 20
    [row] = await service.query("SELECT count(*) FROM aftercommit.tasks")
    assert row[0] == 40


async def test_wait_goes_on_when_postgres_is_away_meanwhile(
    service: Service, proxy: TcpProxy, waiting: asyncio.Event
) -> None:
    await proxy.start()
    api = await behind(service, proxy)
    other = await service.api()
    task_id = (await api.submit("echo"))["id"]
    async with asyncio.timeout(30):
        asked = asyncio.create_task(api.get(task_id, wait=20))
        await waiting.wait()
        await proxy.stop()
        await other.call("POST", f"/v1/tasks/{task_id}/complete", {"result": 1})
        await proxy.start()
        assert (await asked)["status"] == "succeeded"


async def assert_unavailable(api: Api, method: str, path: str, body: Any) -> None:
    answer = await api.ask(method, path, body)
    assert (answer.status, answer.body["code"]) == (503, "database-unavailable"), (method, path)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1
