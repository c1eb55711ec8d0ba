"""The relay inside the API: what it publishes by itself, and what it leaves to the relays."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest
from yarl import URL

from aftercommit.db import eager_rows
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.outbox import OutboxRow
from aftercommit.db.submit import Eager
from aftercommit.devstack.servers import Servers
from aftercommit.server.relay.eager_relay import MOST_BUFFERED_TASKS, EagerRelay
from tests.integration.service import Service
from tests.integration.tcp_proxy import TcpProxy

EMPTY = "SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)"
OWN = "SELECT count(*) FROM aftercommit.outbox_rows WHERE eager_until IS NOT NULL"


@pytest.fixture
def eager_relays(monkeypatch: pytest.MonkeyPatch) -> list[EagerRelay]:
    """Those of the APIs that the test starts."""
    found: list[EagerRelay] = []
    original = EagerRelay.run

    async def run(relay: EagerRelay, stopping: asyncio.Event) -> None:
        found.append(relay)
        await original(relay, stopping)

    monkeypatch.setattr(EagerRelay, "run", run)
    return found


async def until_ready(relays: list[EagerRelay], *, is_ready: bool = True) -> None:
    async with asyncio.timeout(30):
        while not relays or relays[0].is_ready is not is_ready:
            await asyncio.sleep(0.02)


async def test_tasks_run_without_any_relay_process(service: Service, eager_relays: list[EagerRelay]) -> None:
    await service.declare()
    api = await service.api(outbox_eager=True)
    await until_ready(eager_relays)
    await service.worker()
    lone = await api.submit("echo", priority="high")
    many = await api.submit_batch([{"type": "echo", "priority": "low"} for _ in range(400)])
    assert (await api.get(lone["id"], wait=30))["status"] == "succeeded"
    await service.until_idle()
    (row,) = await service.query(
        "SELECT count(*), max(attempt), max(dispatch) FROM aftercommit.tasks WHERE status = 'succeeded'"
    )
    assert tuple(row) == (1 + len(many), 1, 1)
    assert eager_relays[0].totals == {"confirmed": 1 + len(many)}


async def test_published_rows_are_deleted_along_with_the_next_submit(
    service: Service, eager_relays: list[EagerRelay], monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.declare()
    api = await service.api(outbox_eager=True)
    await until_ready(eager_relays)
    monkeypatch.setattr(EagerRelay, "_tidy_up", lambda _: asyncio.sleep(0))
    await api.submit("echo")
    async with asyncio.timeout(10):
        while eager_relays[0].totals["confirmed"] < 1:
            await asyncio.sleep(0.01)
    assert [row[0] for row in await service.query(OWN)] == [1]
    await api.submit("echo")
    assert [row[0] for row in await service.query(OWN)] == [1]
    monkeypatch.undo()


async def test_rows_belong_to_the_relays_when_it_is_turned_off(
    service: Service, eager_relays: list[EagerRelay]
) -> None:
    await service.declare()
    api = await service.api(outbox_eager=False)
    await api.submit("echo")
    assert [tuple(row) for row in await service.query("SELECT eager_until FROM aftercommit.outbox_rows")] == [(None,)]
    assert eager_relays == []


async def test_submit_waits_for_no_broker_that_is_away_and_the_relay_takes_over_at_once(
    service: Service, eager_relays: list[EagerRelay]
) -> None:
    url = URL(service.settings.rabbitmq_url)
    proxy = TcpProxy(str(url.host), url.port or 5672)
    api = await service.api(outbox_eager=True, rabbitmq_url=str(url.with_host("127.0.0.1").with_port(proxy.port)))
    await api.submit("echo")
    assert [tuple(row) for row in await service.query("SELECT eager_until FROM aftercommit.outbox_rows")] == [(None,)]
    await proxy.start()
    await until_ready(eager_relays)
    await proxy.stop()
    await service.relay()
    await service.worker()
    tasks = [await api.submit("echo") for _ in range(20)]
    for task in tasks:
        assert (await api.get(task["id"], wait=30))["status"] == "succeeded"
    await service.until(EMPTY)


async def test_rows_are_handed_over_when_the_broker_falls_silent(
    service: Service, eager_relays: list[EagerRelay]
) -> None:
    url = URL(service.settings.rabbitmq_url)
    proxy = TcpProxy(str(url.host), url.port or 5672)
    await proxy.start()
    api = await service.api(
        outbox_eager=True,
        outbox_eager_grace_seconds=1.5,
        rabbitmq_url=str(url.with_host("127.0.0.1").with_port(proxy.port)),
    )
    await until_ready(eager_relays)
    proxy.silence()
    async with asyncio.timeout(5):
        tasks = [await api.submit("echo") for _ in range(20)]
    assert [row[0] for row in await service.query(OWN)] == [20]
    await service.until("SELECT bool_and(eager_until IS NULL) FROM aftercommit.outbox_rows")
    await service.relay()
    await service.worker()
    for task in tasks:
        assert (await api.get(task["id"], wait=30))["status"] == "succeeded"
    await service.until(EMPTY)
    await proxy.stop()


async def test_relay_takes_the_rows_of_a_process_that_died_between_commit_and_publish(
    service: Service, eager_relays: list[EagerRelay], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(relay: EagerRelay, terms: Eager, rows: Sequence[OutboxRow]) -> None:
        pass

    await service.declare()
    api = await service.api(outbox_eager=True, outbox_eager_grace_seconds=1.5)
    await until_ready(eager_relays)
    monkeypatch.setattr(EagerRelay, "committed", die)
    task = await api.submit("echo")
    await service.relay()
    await service.worker()
    await asyncio.sleep(0.5)
    assert [row[0] for row in await service.query(OWN)] == [1]
    assert (await api.get(task["id"], wait=30))["status"] == "succeeded"
    await service.until(EMPTY)


async def test_rows_that_a_relay_has_taken_are_neither_waited_for_nor_deleted(service: Service) -> None:
    api = await service.api()
    await api.submit("echo")
    await service.query("UPDATE aftercommit.outbox_rows SET eager_until = now()")
    (row,) = await service.query("SELECT id FROM aftercommit.outbox_rows")
    async with (
        DatabaseConnection(service.settings, application="test") as relay,
        DatabaseConnection(service.settings, application="test") as api_process,
    ):
        async with relay.transaction() as fetch:
            assert await eager_rows.adopt(fetch, lapsed_within_seconds=60, limit=10) == 1
            async with asyncio.timeout(5):
                await eager_rows.delete(api_process.fetch, [row.id])
                await eager_rows.hand_over(api_process.fetch, [row.id])
        await eager_rows.delete(api_process.fetch, [row.id])
    (after,) = await service.query("SELECT id, eager_until FROM aftercommit.outbox_rows")
    assert after.id > row.id
    assert after.eager_until is None


async def test_full_queue_is_left_to_the_relays_while_others_go_on(
    service: Service, servers: Servers, eager_relays: list[EagerRelay]
) -> None:
    await service.declare()
    policy = f"/api/policies/{service.settings.rabbitmq_url.rsplit('/', 1)[1]}/short"
    limit = {"pattern": "^tasks.low$", "definition": {"max-length": 10}, "apply-to": "queues"}
    servers.rabbitmq.management.call("PUT", policy, limit)
    api = await service.api(outbox_eager=True)
    await until_ready(eager_relays)
    async with asyncio.timeout(30):
        while not eager_relays[0].totals["refused"]:
            await api.submit_batch([{"type": "echo", "priority": "low"} for _ in range(10)])
    await api.submit("echo", priority="low")
    high = await api.submit("echo", priority="high")
    await service.until("SELECT count(*) > 0 FROM aftercommit.outbox_rows WHERE eager_until IS NULL")
    servers.rabbitmq.management.call("DELETE", policy)
    await service.worker()
    assert (await api.get(high["id"], wait=30))["status"] == "succeeded"
    await service.relay()
    await service.until_idle()
    # Once it has room again the API publishes to it by itself.
    confirmed = eager_relays[0].totals["confirmed"]
    async with asyncio.timeout(30):
        while eager_relays[0].totals["confirmed"] == confirmed:
            await api.submit("echo", priority="low")
            await asyncio.sleep(0.2)


async def test_what_is_under_way_when_the_api_stops_is_published_or_handed_over(
    service: Service, eager_relays: list[EagerRelay]
) -> None:
    await service.declare()
    async with AsyncExitStack() as stack:
        api = await Service(service.settings, stack).api(outbox_eager=True, outbox_eager_grace_seconds=60)
        await until_ready(eager_relays)
        await asyncio.gather(*(api.submit_batch([{"type": "echo"} for _ in range(100)]) for _ in range(5)))
    assert [row[0] for row in await service.query(OWN)] == [0]
    await service.relay()
    await service.worker()
    await service.until_idle()
    (row,) = await service.query("SELECT count(*) FROM aftercommit.tasks WHERE status = 'succeeded'")
    assert row[0] == 500


async def test_large_batch_is_left_to_the_relays(service: Service, eager_relays: list[EagerRelay]) -> None:
    await service.declare()
    api = await service.api(outbox_eager=True)
    await until_ready(eager_relays)
    await api.submit_batch([{"type": "echo"} for _ in range(MOST_BUFFERED_TASKS + 1)])
    assert [row[0] for row in await service.query(OWN)] == [0]
