"""Health, and the API while Postgres or RabbitMQ is away. The servers themselves are never stopped here."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aftercommit.devstack.ports import free_port
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


@pytest.fixture
async def proxy(service: Service) -> AsyncIterator[TcpProxy]:
    made = TcpProxy(service.settings.postgres_host, service.settings.postgres_port)
    yield made
    await made.stop()


async def behind(service: Service, proxy: TcpProxy) -> Api:
    return await service.api(postgres_host="127.0.0.1", postgres_port=proxy.port)


async def test_api_is_ready_when_everything_is_up(service: Service) -> None:
    api = await service.api()
    assert (await api.call("GET", "/healthz"))[0] == 204
    up = {"status": "ready", "postgres": "up", "migrations": "up", "broker": "up"}
    assert await api.call("GET", "/readyz") == (200, up)


async def test_api_is_degraded_and_takes_tasks_when_the_broker_is_down(service: Service) -> None:
    api = await service.api(rabbitmq_url=f"amqp://127.0.0.1:{free_port()}/")
    status, answer = await api.call("GET", "/readyz")
    assert (status, answer["status"], answer["postgres"]) == (200, "degraded", "up")
    assert answer["broker"].startswith("RabbitMQ cannot be reached: ")
    assert (await api.submit("echo"))["status"] == "queued"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("DROP TABLE alembic_version", "at None, this code needs"),
        ("DELETE FROM alembic_version", "at None, this code needs"),
        ("UPDATE alembic_version SET version_num = '0000'", "at 0000, this code needs"),
    ],
)
async def test_api_is_not_ready_when_the_database_is_not_migrated(service: Service, change: str, told: str) -> None:
    api = await service.api()
    await service.query(change)
    status, answer = await api.call("GET", "/readyz")
    assert (status, answer["status"], answer["postgres"]) == (503, "not ready", "up")
    assert answer["migrations"].startswith(told)
    assert "alembic upgrade head" in answer["migrations"]


async def test_api_is_ready_when_the_database_is_a_release_ahead(service: Service) -> None:
    api = await service.api()
    await service.query("UPDATE alembic_version SET version_num = '9999'")
    assert (await api.call("GET", "/readyz"))[0] == 200


async def test_api_says_503_when_it_starts_while_postgres_is_down_and_recovers(
    service: Service, proxy: TcpProxy
) -> None:
    api = await behind(service, proxy)
    assert (await api.call("GET", "/healthz"))[0] == 204
    status, answer = await api.call("GET", "/readyz")
    assert (status, answer["status"], answer["broker"]) == (503, "not ready", "up")
    assert answer["postgres"] != "up"
    for method, path, body in DATABASE_CALLS:
        await assert_unavailable(api, method, path, body)
    await proxy.start()
    assert (await api.submit("echo"))["status"] == "queued"
    assert (await api.call("GET", "/readyz"))[0] == 200


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
