"""What is said of a delivery, when its channel can no longer carry it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from aftercommit.broker import acknowledger
from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.consumer import Delivery, Subscription
from aftercommit.core.queues import Priority, WorkQueue
from tests.integration.service import Service

HIGH = WorkQueue("tasks", Priority.HIGH)


@pytest.fixture
async def connection(service: Service) -> BrokerConnection:
    return await service.declare()


@pytest.fixture
async def arrivals() -> asyncio.Queue[Delivery]:
    return asyncio.Queue()


@pytest.fixture
async def subscription(
    service: Service, connection: BrokerConnection, arrivals: asyncio.Queue[Delivery]
) -> AsyncIterator[Subscription]:
    """Of a work queue with ten messages."""
    api = await service.api()
    await api.submit_batch([{"type": "echo", "priority": "high"} for _ in range(10)])
    await service.relay()
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)")
    opened = Subscription(connection, HIGH, on_delivery=arrivals.put_nowait)
    await opened.open()
    await opened.consume(prefetch=10)
    yield opened
    await opened.close()


async def until_depth(connection: BrokerConnection, wanted: int) -> None:
    """RabbitMQ 4 takes a closed channel's messages back a moment after it said that the channel is closed."""
    async with asyncio.timeout(10):
        while await depth(connection) != wanted:
            await asyncio.sleep(0.02)


async def depth(connection: BrokerConnection) -> int | None:
    channel = await connection.open_channel()
    found = await channel.declare_queue(str(HIGH), passive=True)
    await connection.close_channel(channel)
    return found.declaration_result.message_count


async def test_answer_after_the_channel_was_closed_costs_nobody_the_connection(
    connection: BrokerConnection, subscription: Subscription, arrivals: asyncio.Queue[Delivery]
) -> None:
    delivery = await arrivals.get()
    other = await connection.open_channel()
    closing = asyncio.create_task(subscription.close())
    await asyncio.sleep(0)
    delivery.acknowledge()
    await delivery.hand_back()
    await closing
    await until_depth(connection, 10)
    assert not other.is_closed


async def test_channel_that_takes_nothing_more_is_lost_instead_of_waited_for(
    subscription: Subscription, arrivals: asyncio.Queue[Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = await arrivals.get()
    full: asyncio.Queue[object] = asyncio.Queue(1)
    full.put_nowait(None)
    monkeypatch.setattr(acknowledger, "CALL_SECONDS", 0.05)
    with monkeypatch.context() as stuck:
        stuck.setattr(await subscription._underlay(), "write_queue", full)
        async with asyncio.timeout(5):
            delivery.acknowledge()
            await subscription.lost.wait()
    assert subscription.lost.is_set()


async def test_acknowledgements_that_gathered_are_told_before_the_channel_is_closed(
    connection: BrokerConnection, subscription: Subscription, arrivals: asyncio.Queue[Delivery]
) -> None:
    deliveries = [await arrivals.get() for _ in range(10)]
    for delivery in (*deliveries[:2], *deliveries[4:]):
        delivery.acknowledge()
    await deliveries[2].hand_back()
    await subscription.close()
    await until_depth(connection, 2)


async def test_broker_hears_of_an_acknowledgement_soon(
    connection: BrokerConnection, subscription: Subscription, arrivals: asyncio.Queue[Delivery]
) -> None:
    for _ in range(10):
        (await arrivals.get()).acknowledge()
        await asyncio.sleep(acknowledger.GATHER_SECONDS * 2)  # so that each is told by a later round
    await connection.close()
    await asyncio.sleep(0.5)  # by then the broker has taken back what is unacknowledged
    assert await depth(connection) == 0


async def test_what_is_done_with_while_the_connection_is_full_is_told_too(
    subscription: Subscription, arrivals: asyncio.Queue[Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    deliveries = [await arrivals.get() for _ in range(10)]
    full: asyncio.Queue[object] = asyncio.Queue(1)
    with monkeypatch.context() as stuck:
        stuck.setattr(await subscription._underlay(), "write_queue", full)
        for delivery in deliveries[1::2]:
            delivery.acknowledge()  # each is told apart, since those before are open
        await full.get()
        deliveries[0].acknowledge()
        async with asyncio.timeout(5):
            for _ in range(5):
                await full.get()
