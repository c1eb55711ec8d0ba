"""Queues that exist, but not as this release declares them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aio_pika import DeliveryMode
from structlog.testing import capture_logs

from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.topology import DEAD_LETTERS
from aftercommit.core.queues import QueueType
from aftercommit.devstack.servers import Servers
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.server.maintenance.topology_keeper import TopologyKeeper
from tests.integration.service import Api, Service, a_declarer

WORK: dict[str, Any] = {
    "x-queue-type": "quorum",
    "x-overflow": "reject-publish",
    "x-delivery-limit": 1_000,
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": DEAD_LETTERS,
}
OTHER_TUNING: dict[str, dict[str, Any]] = {
    "an older delivery limit": WORK | {"x-delivery-limit": 20},
    "no delivery limit": {name: value for name, value in WORK.items() if name != "x-delivery-limit"},
    "a length": WORK | {"x-max-length": 1_000_000},
    "several": WORK | {"x-delivery-limit": 7, "x-max-length": 5_000, "x-max-length-bytes": 9_000_000},
}
OTHER_STRUCTURE: dict[str, dict[str, Any]] = {
    "classic": WORK | {"x-queue-type": "classic", "x-delivery-limit": None},
    "bare": {"x-queue-type": "classic"},
    "stream": {"x-queue-type": "stream"},
    "another dead-letter target": WORK | {"x-dead-letter-routing-key": "elsewhere"},
    "loses its oldest": WORK | {"x-overflow": "drop-head"},
    "other structure and tuning": WORK | {"x-delivery-limit": 20, "x-message-ttl": 60_000},
}


@pytest.fixture
async def connection(service: Service) -> AsyncIterator[BrokerConnection]:
    opened = BrokerConnection(service.settings.rabbitmq_url, name="test")
    yield opened
    await opened.close()


async def declare(connection: BrokerConnection, name: str, arguments: Mapping[str, Any], **options: Any) -> None:
    given = {argument: value for argument, value in arguments.items() if value is not None}
    async with connection.channel() as channel:
        await channel.declare_queue(name, arguments=given, **{"durable": True, **options})


async def depth(connection: BrokerConnection, name: str) -> int | None:
    async with connection.channel() as channel:
        return (await channel.declare_queue(name, passive=True)).declaration_result.message_count


@pytest.mark.parametrize("arguments", OTHER_TUNING.values(), ids=OTHER_TUNING)
async def test_queue_with_other_tuning_is_used_as_it_is_and_the_difference_is_reported(
    service: Service, connection: BrokerConnection, arguments: dict[str, Any]
) -> None:
    await declare(connection, "tasks.high", arguments)
    await service.maintenance()
    await service.relay()
    await service.worker()
    api = await service.api()
    task = await api.submit("echo", priority="high")
    assert (await api.get(task["id"], wait=30))["status"] == "succeeded"
    answer = await compared(api)
    found = {queue["name"]: queue for queue in answer["queues"]}
    assert found["tasks.high"]["problem"] is None
    for argument in arguments.keys() ^ WORK.keys():
        assert argument in found["tasks.high"]["tuning"]
    assert found["tasks.low"]["tuning"] is None
    assert answer["problems"] == {}
    await declare(connection, "tasks.high", arguments)  # it still is what it was


async def test_dead_letters_of_another_length_are_used_as_they_are(
    service: Service, connection: BrokerConnection
) -> None:
    await declare(connection, DEAD_LETTERS, {"x-queue-type": "quorum", "x-overflow": "drop-head", "x-max-length": 10})
    await service.relay()
    await service.query(
        "INSERT INTO aftercommit.outbox_rows (work_queue, dead_reason, body) VALUES ('tasks.high', 'why', 'body')"
    )
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)")
    assert await depth(connection, DEAD_LETTERS) == 1


async def compared(api: Api) -> dict[str, Any]:
    """The answer about the queues once they were compared: a busy broker takes longer than one request waits."""
    async with asyncio.timeout(30):
        while True:
            _, answer = await api.call("GET", "/v1/queues")
            if answer["problems"] or any(queue["tuning"] for queue in answer["queues"]):
                return dict(answer)


async def assert_only_high_is_stopped(service: Service) -> str:
    """Every role runs; what is wrong with ``tasks.high``."""
    await service.maintenance(topology_interval_seconds=0.2)
    await service.relay()
    await service.worker()
    api = await service.api()
    stopped = await api.submit("echo", priority="high")
    for priority in ("medium", "low"):
        # Through the retry queues, which are declared after tasks.high.
        task = await api.submit("test.fail_until", payload={"attempt": 2}, priority=priority)
        assert (await api.get(task["id"], wait=30))["status"] == "succeeded"
    assert (await api.get(stopped["id"]))["status"] == "queued"
    _, outbox = await api.call("GET", "/v1/outbox")
    assert (outbox["unpublished"], outbox["failed"]) == (1, 0)
    answer = await compared(api)
    found = {queue["name"]: queue for queue in answer["queues"]}
    assert [name for name, queue in found.items() if queue["problem"] is not None] == ["tasks.high"]
    assert list(answer["problems"]) == ["tasks.high"]
    (row,) = await service.query("SELECT max(attempts) FROM aftercommit.outbox_rows")
    assert row[0] == 0
    return str(found["tasks.high"]["problem"])


@pytest.mark.parametrize("arguments", OTHER_STRUCTURE.values(), ids=OTHER_STRUCTURE)
async def test_queue_of_another_structure_stops_only_itself(
    service: Service, connection: BrokerConnection, arguments: dict[str, Any]
) -> None:
    await declare(connection, "tasks.high", arguments)
    problem = await assert_only_high_is_stopped(service)
    assert problem.startswith("tasks.high exists with another structure: x-")


async def test_exclusive_queue_of_somebody_else_stops_only_itself(
    service: Service, connection: BrokerConnection
) -> None:
    await declare(connection, "tasks.high", {}, durable=False, exclusive=True)
    assert "RESOURCE_LOCKED" in await assert_only_high_is_stopped(service)


async def test_auto_delete_queue_stops_only_itself(service: Service, connection: BrokerConnection) -> None:
    await declare(connection, "tasks.high", {}, durable=False, auto_delete=True)
    # A worker that consumed it and went would delete it, and it would be declared anew.
    await a_declarer(connection, service.settings).declare()
    report = await a_declarer(connection, service.settings).compare()
    assert list(report.problems) == ["tasks.high"]


async def test_exchange_of_another_type_stops_only_the_retries_of_its_delay(
    service: Service, connection: BrokerConnection
) -> None:
    async with connection.channel() as channel:
        await channel.declare_exchange("tasks.retry.1", "fanout", durable=True)
    report = await a_declarer(connection, service.settings).declare()
    assert list(report.problems) == [
        "tasks.retry.1",
        "tasks.retry.high.1",
        "tasks.retry.medium.1",
        "tasks.retry.low.1",
    ]
    await service.relay()
    await service.worker()
    api = await service.api()
    waiting = await api.submit("test.fail_until", payload={"attempt": 2})
    await service.until("SELECT EXISTS (SELECT FROM aftercommit.outbox_rows WHERE delay_seconds = 1)")
    task = await api.submit("echo")
    assert (await api.get(task["id"], wait=30))["status"] == "succeeded"
    assert (await api.get(waiting["id"]))["status"] == "retrying"


async def test_queue_is_used_again_when_it_was_put_right(
    service: Service, connection: BrokerConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aftercommit.broker.publisher.CHECK_SECONDS", 0.2)
    await declare(connection, "tasks.high", {"x-queue-type": "classic"})
    await service.relay()
    api = await service.api()
    task = await api.submit("echo", priority="high")
    other = await api.submit("echo", priority="low")
    await service.until(
        f"SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows WHERE '{other['id']}' = ANY (task_ids))"
    )
    async with connection.channel() as channel:
        await channel.queue_delete("tasks.high")
    await service.worker()
    assert (await api.get(task["id"], wait=30))["status"] == "succeeded"


async def test_problem_and_difference_are_logged_once(service: Service, connection: BrokerConnection) -> None:
    await declare(connection, "tasks.high", {"x-queue-type": "classic"})
    await declare(connection, "tasks.low", WORK | {"x-delivery-limit": 20})
    keeper = TopologyKeeper(a_declarer(connection, service.settings), KnownQueues(["tasks"]), interval_seconds=30)
    with capture_logs() as logs:
        for _ in range(3):
            await keeper.run_once()
    told = [(log["event"], log.get("queue")) for log in logs if log["event"].startswith("queue_")]
    assert told == [("queue_unusable", "tasks.high"), ("queue_tuning_differs", "tasks.low")]


async def test_user_who_may_not_declare_uses_what_is_there(
    service: Service, servers: Servers, connection: BrokerConnection
) -> None:
    await declare(connection, "tasks.high", WORK)
    vhost = service.settings.rabbitmq_url.rsplit("/", 1)[1]
    servers.rabbitmq.management.call("PUT", "/api/users/reader", {"password": "reader", "tags": ""})
    servers.rabbitmq.management.call(
        "PUT", f"/api/permissions/{vhost}/reader", {"configure": "^$", "write": ".*", "read": ".*"}
    )
    url = service.settings.rabbitmq_url.replace("guest:guest", "reader:reader")
    reader = BrokerConnection(url, name="reader")
    report = await a_declarer(reader, service.settings).declare()
    await reader.close()
    servers.rabbitmq.management.call("DELETE", "/api/users/reader")
    assert "tasks.high" not in report.problems
    assert "not compared" in report.tuning["tasks.high"]
    assert "ACCESS_REFUSED" in report.problems["tasks.low"]


async def test_classic_queues_are_declared_when_asked(service: Service) -> None:
    await service.relay(rabbitmq_queue_type="classic")
    await service.worker()
    api = await service.api(rabbitmq_queue_type="classic")
    task = await api.submit("test.fail_until", payload={"attempt": 2})
    assert (await api.get(task["id"], wait=30))["status"] == "succeeded"
    _, answer = await api.call("GET", "/v1/queues")
    assert answer["problems"] == {}
    _, answer = await (await service.api()).call("GET", "/v1/queues")
    assert sorted(answer["problems"]) == ["tasks.high", "tasks.low", "tasks.medium"]


async def test_retry_queue_of_the_other_type_stops_only_the_retries_of_its_delay(
    service: Service, connection: BrokerConnection
) -> None:
    await a_declarer(connection, service.settings.model_copy(update={"retry_delays_seconds": (1,)})).declare()
    classic = service.settings.model_copy(update={"rabbitmq_queue_type": QueueType.CLASSIC, "queues": ("other",)})
    report = await a_declarer(connection, classic).declare()
    assert sorted(report.problems) == ["tasks.retry.high.1", "tasks.retry.low.1", "tasks.retry.medium.1"]
    assert "exists with another structure" in report.problems["tasks.retry.low.1"]


@pytest.mark.parametrize(
    ("queue_type", "mode"),
    [(QueueType.QUORUM, DeliveryMode.PERSISTENT), (QueueType.CLASSIC, DeliveryMode.NOT_PERSISTENT)],
)
async def test_messages_are_transient_on_classic_queues_but_dead_letters_are_not(
    queue_type: QueueType, mode: DeliveryMode, service: Service, connection: BrokerConnection
) -> None:
    await service.relay(rabbitmq_queue_type=queue_type)
    api = await service.api()
    await api.submit("echo")
    await service.query(
        "INSERT INTO aftercommit.outbox_rows (work_queue, delay_seconds, dead_reason, task_ids, dispatches)"
        " SELECT name, delay, reason, ARRAY[gen_random_uuid()], '{1}'"
        " FROM (VALUES ('tasks.high', 1, NULL), ('tasks.low', NULL, 'why')) AS row (name, delay, reason)"
    )
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)")
    assert await mode_of_first(connection, "tasks.medium") is mode
    # Through the retry queue.
    assert await mode_of_first(connection, "tasks.high") is mode
    assert await mode_of_first(connection, DEAD_LETTERS) is DeliveryMode.PERSISTENT


async def mode_of_first(connection: BrokerConnection, name: str) -> DeliveryMode | None:
    """How the first message of a queue was published; waits for it."""
    async with connection.channel() as channel, asyncio.timeout(10):
        queue = await channel.get_queue(name, ensure=False)
        async with queue.iterator(no_ack=True) as messages:
            return (await anext(messages)).delivery_mode
