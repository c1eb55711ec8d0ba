"""Messages over which the broker closes the channel, among others, and a broker that is away."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.message import Message
from aftercommit.broker.publisher import Publisher
from aftercommit.broker.receipt import Fate
from aftercommit.devstack.servers import Servers
from tests.integration.service import Service, a_declarer
from tests.integration.tcp_proxy import TcpProxy

RESERVED = {"CC": "not a list"}
"""A header for which RabbitMQ closes the channel with 406, on 3.10 as on 4.3."""


@pytest.fixture
async def publisher(service: Service) -> AsyncIterator[Publisher]:
    made = make(service.settings.rabbitmq_url, service)
    await made.prepare()
    yield made
    await made.close()


def make(url: str, service: Service, *, confirm_seconds: float = 20) -> Publisher:
    connection = BrokerConnection(url, name="test-publisher")
    return Publisher(connection, a_declarer(connection, service.settings), confirm_seconds=confirm_seconds)


def messages(count: int, *, start: int = 0, exchange: str = "", headers: dict[str, str] | None = None) -> list[Message]:
    return [
        Message(str(number), exchange, "tasks.high", b"{}", headers or {}) for number in range(start, start + count)
    ]


async def ready(service: Service) -> int | None:
    connection = await service.declare()
    async with connection.channel() as channel:
        return (await channel.declare_queue("tasks.high", passive=True)).declaration_result.message_count


async def test_message_that_the_broker_never_takes_is_found_among_many(service: Service, publisher: Publisher) -> None:
    batch = [*messages(30), *messages(1, start=30, headers=RESERVED), *messages(69, start=31)]
    receipts = await publisher.publish(batch)
    assert [number for number, one in enumerate(receipts) if one.fate is not Fate.CONFIRMED] == [30]
    assert receipts[30].fate is Fate.UNACCEPTABLE
    assert "PRECONDITION_FAILED" in receipts[30].reason
    assert (await ready(service) or 0) >= 99
    # And the publisher goes on.
    await publisher.prepare()
    assert [one.fate for one in await publisher.publish(messages(2))] == [Fate.CONFIRMED] * 2


async def test_exchange_that_does_not_exist_is_returned_for_all_that_go_there(publisher: Publisher) -> None:
    batch = [*messages(20), *messages(20, start=20, exchange="nowhere"), *messages(20, start=40)]
    receipts = await publisher.publish(batch)
    assert [one.fate for one in receipts] == [Fate.CONFIRMED] * 20 + [Fate.RETURNED] * 20 + [Fate.CONFIRMED] * 20
    assert "no exchange 'nowhere'" in receipts[20].reason


async def test_message_that_amqp_cannot_carry_costs_nobody_else(publisher: Publisher) -> None:
    batch = [*messages(2), Message("2", "", "x" * 300, b"{}"), *messages(2, start=3)]
    receipts = await publisher.publish(batch)
    assert [one.fate for one in receipts] == [*[Fate.CONFIRMED] * 2, Fate.UNACCEPTABLE, *[Fate.CONFIRMED] * 2]


async def test_exchange_that_may_not_be_written_to_is_refused_and_nobody_is_to_blame(
    service: Service, servers: Servers, publisher: Publisher
) -> None:
    vhost = service.settings.rabbitmq_url.rsplit("/", 1)[1]
    call = servers.rabbitmq.management.call
    call("PUT", "/api/users/writer", {"password": "writer", "tags": ""})
    call("PUT", f"/api/permissions/{vhost}/writer", {"configure": ".*", "write": "^tasks", "read": ".*"})
    writer = make(service.settings.rabbitmq_url.replace("guest:guest", "writer:writer"), service)
    await writer.prepare()
    through = [Message("1", "", "tasks.high", b"{}"), Message("2", "tasks.retry.1", "tasks.high", b"{}")]
    receipts = await writer.publish(through)
    await writer.close()
    call("DELETE", "/api/users/writer")
    assert [one.fate for one in receipts] == [Fate.REFUSED, Fate.CONFIRMED]
    assert "ACCESS_REFUSED" in receipts[0].reason


async def test_broker_that_is_away_is_to_blame_and_no_message(service: Service, servers: Servers) -> None:
    proxy = TcpProxy(servers.rabbitmq.host, servers.rabbitmq.amqp_port)
    await proxy.start()
    vhost = service.settings.rabbitmq_url.rsplit("/", 1)[1]
    publisher = make(f"amqp://guest:guest@127.0.0.1:{proxy.port}/{vhost}", service)
    await publisher.prepare()
    publishing = asyncio.create_task(publisher.publish(messages(50_000)))
    await asyncio.sleep(0)
    await proxy.stop()
    assert {one.fate for one in await publishing} <= {Fate.CONFIRMED, Fate.UNKNOWN}
    assert (await publishing)[-1].fate is Fate.UNKNOWN
    await publisher.close()


async def test_row_that_the_broker_never_takes_is_parked_with_its_reason_and_holds_nobody_up(service: Service) -> None:
    api = await service.api()
    await service.query(
        "INSERT INTO aftercommit.outbox_rows (work_queue, task_ids, dispatches)"
        " VALUES (repeat('x', 300), ARRAY[CAST(:id AS uuid)], '{1}')",
        id="0199a3c5-7e4b-7c11-9a55-0d9f4c5be7aa",
    )
    tasks = await api.submit_batch([{"type": "echo"} for _ in range(20)])
    await service.relay()
    await service.worker()
    assert (await api.get(tasks[-1]["id"], wait=30))["status"] == "succeeded"
    await service.until("SELECT count(*) = 1 FROM aftercommit.outbox_rows WHERE failed_at IS NOT NULL")
    _, outbox = await api.call("GET", "/v1/outbox")
    assert "AMQP cannot carry it" in outbox["failed_rows"][0]["last_error"]


async def test_row_for_an_exchange_that_vanished_waits_for_it_or_is_parked(service: Service, servers: Servers) -> None:
    """It does not go back to the outbox with its whole batch for ever."""
    api = await service.api()
    await service.relay(outbox_max_attempts=3)
    first = await api.submit("echo", priority="high")
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)")
    vhost = service.settings.rabbitmq_url.rsplit("/", 1)[1]
    servers.rabbitmq.management.call("DELETE", f"/api/exchanges/{vhost}/tasks.retry.1")
    await service.query(
        "INSERT INTO aftercommit.outbox_rows (work_queue, delay_seconds, task_ids, dispatches)"
        " SELECT 'tasks.high', 1, ARRAY[CAST(:id AS uuid)], '{1}'::int[] FROM generate_series(1, 10)",
        id=first["id"],
    )
    beside = await api.submit("echo", priority="low")
    await service.worker()
    assert (await api.get(beside["id"], wait=30))["status"] == "succeeded"
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)")
