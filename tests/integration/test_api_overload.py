"""What one API process holds is bounded: submits that wait for a commit, and request bodies."""

import asyncio
import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aiohttp
import pytest

from aftercommit.db.database import DatabaseConnection
from tests.integration.service import Answer, Api, Service

TASK = {"type": "echo"}


@pytest.fixture
async def locked(service: Service) -> AsyncIterator[DatabaseConnection]:
    """Holds up every submit until it is closed."""
    async with DatabaseConnection(service.settings, application="test") as lock:
        await lock.fetch("BEGIN")
        await lock.fetch("LOCK TABLE aftercommit.outbox_rows IN ACCESS EXCLUSIVE MODE")
        yield lock


async def until_submits_wait(service: Service, count: int) -> None:
    await service.until(
        f"SELECT count(*) = {count} FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%INSERT%'"
        " AND datname = current_database()"
    )


def assert_overloaded(answer: Answer) -> None:
    assert (answer.status, answer.body["code"]) == (503, "overloaded"), answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1


async def count(service: Service) -> int:
    [row] = await service.query("SELECT count(*) FROM aftercommit.tasks")
    return int(row[0])


async def fill_statements(service: Service, api: Api) -> list[asyncio.Task[Answer]]:
    """Two submits whose statements the lock holds up; what comes now waits."""
    sent = []
    for number in (1, 2):
        sent.append(asyncio.create_task(api.ask("POST", "/v1/tasks", TASK)))
        await until_submits_wait(service, number)
    return sent


async def test_submit_is_refused_when_too_many_wait(service: Service, locked: DatabaseConnection) -> None:
    api = await service.api(submit_queue_tasks=5)
    sent = await fill_statements(service, api)
    batch = {"tasks": [TASK] * 3}
    sent.append(asyncio.create_task(api.ask("POST", "/v1/tasks/batch", batch)))
    await asyncio.sleep(0)
    answers = await asyncio.gather(*(api.ask("POST", "/v1/tasks/batch", batch) for _ in range(3)))
    for answer in answers:
        assert_overloaded(answer)
    await locked.close()
    assert [(await each).status for each in sent] == [201, 201, 201]
    assert await count(service) == 5


async def test_submit_is_answered_when_its_time_is_over(service: Service, locked: DatabaseConnection) -> None:
    api = await service.api(submit_wait_seconds=1.0)
    sent = await fill_statements(service, api)
    async with asyncio.timeout(5):
        assert_overloaded(await api.ask("POST", "/v1/tasks", TASK))
        for each in sent:
            answer = await each
            assert (answer.status, answer.body["code"]) == (503, "database-timeout")
            assert "Idempotency-Key" in answer.body["detail"]
            assert int(answer.headers["Retry-After"]) >= 1
    await locked.close()


async def test_nothing_is_committed_for_a_client_that_left_before_its_turn(
    service: Service, locked: DatabaseConnection
) -> None:
    api = await service.api()
    sent = await fill_statements(service, api)
    async with aiohttp.ClientSession() as impatient:
        left = [asyncio.create_task(impatient.post(f"{api.url}/v1/tasks", json=TASK)) for _ in range(10)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.gather(*left)
    # Another submit waits behind them for longer than it takes to see that they left.
    patient = asyncio.create_task(api.ask("POST", "/v1/tasks", TASK))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await asyncio.shield(patient)
    await locked.close()
    assert [(await each).status for each in (*sent, patient)] == [201] * 3
    assert await count(service) == 3


async def test_body_is_refused_when_the_process_holds_too_many(service: Service) -> None:
    api = await service.api(api_max_payload_bytes=60_000, api_max_body_bytes=60_000, api_max_bodies_bytes=100_000)
    address = urlsplit(api.url)
    body = json.dumps(TASK | {"payload": {"a": "x" * 49_800}}).encode()
    head = b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    small = TASK | {"payload": {"a": "x" * 1_000}}
    # Two clients that stop in the middle of their bodies.
    writers = []
    for _ in range(2):
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(head + body[:-1])
        await writer.drain()
        writers.append(writer)
    async with asyncio.timeout(10):
        while (answer := await api.ask("POST", "/v1/tasks", small)).status == 201:
            await asyncio.sleep(0.02)
    assert_overloaded(answer)
    for writer in writers:
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(10):
        while (await api.ask("POST", "/v1/tasks", small)).status != 201:
            await asyncio.sleep(0.02)
