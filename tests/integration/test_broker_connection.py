"""What is said of a broker that refuses us or stays silent, and what is left behind of it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from aftercommit.broker import connection as module
from aftercommit.broker.connection import MOST_UNANSWERED, BrokerConnection
from aftercommit.broker.consumer import Subscription
from aftercommit.broker.inspection import Inspector
from aftercommit.core.errors import BrokerUnavailable
from aftercommit.core.queues import Priority, WorkQueue
from aftercommit.devstack.ports import free_port
from aftercommit.devstack.servers import Servers
from tests.integration.service import Service
from tests.integration.tcp_proxy import TcpProxy


class MuteProxy(TcpProxy):
    """Keeps what it is to forward while ``speaks`` is not set."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.speaks = asyncio.Event()
        self.speaks.set()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            await self.speaks.wait()
            writer.write(data)
        writer.close()


@pytest.fixture
async def proxy(servers: Servers) -> AsyncIterator[MuteProxy]:
    made = MuteProxy(servers.rabbitmq.host, servers.rabbitmq.amqp_port)
    await made.start()
    yield made
    made.speaks.set()
    await made.stop()


def channels(connection: BrokerConnection) -> int:
    opened = connection._connection
    return len(opened.transport.connection.channels) if opened and opened.transport else 0


async def refusal(url: str) -> str:
    connection = BrokerConnection(url, name="test")
    with pytest.raises(BrokerUnavailable) as refused:
        await Inspector(connection).check()
    await connection.close()
    assert refused.value.__cause__ is not None
    return refused.value.detail


async def test_broker_that_is_not_there_cannot_be_reached() -> None:
    assert (await refusal(f"amqp://127.0.0.1:{free_port()}/")).startswith("RabbitMQ cannot be reached: ")


async def test_refused_login_names_the_setting(service: Service) -> None:
    url = service.settings.rabbitmq_url.replace("guest:guest", "guest:wrong")
    assert await refusal(url) == "RabbitMQ refuses the login: check the user and the password in RABBITMQ_URL."


async def test_unknown_vhost_names_the_setting(service: Service) -> None:
    told = await refusal(service.settings.rabbitmq_url.rsplit("/", 1)[0] + "/nowhere")
    assert told.startswith("RabbitMQ refuses the vhost: ")


async def test_silent_broker_did_not_answer(monkeypatch: pytest.MonkeyPatch, proxy: MuteProxy) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.2)
    proxy.speaks.clear()
    assert await refusal(f"amqp://guest:guest@127.0.0.1:{proxy.port}/") == "RabbitMQ did not answer in time."


async def test_channels_do_not_gather_while_the_broker_is_silent(
    service: Service, monkeypatch: pytest.MonkeyPatch, proxy: MuteProxy
) -> None:
    vhost = service.settings.rabbitmq_url.rsplit("/", 1)[1]
    connection = BrokerConnection(f"amqp://guest:guest@127.0.0.1:{proxy.port}/{vhost}", name="test")
    inspector = Inspector(connection)
    await inspector.check()
    for name in ("CONNECT_SECONDS", "CALL_SECONDS", "CLOSE_SECONDS"):
        monkeypatch.setattr(module, name, 0.05)
    proxy.speaks.clear()
    most = 0
    for _ in range(3 * MOST_UNANSWERED):
        with pytest.raises(BrokerUnavailable):
            await inspector.check()
        most = max(most, channels(connection))
    assert most <= MOST_UNANSWERED + 1
    monkeypatch.undo()
    proxy.speaks.set()
    await inspector.check()
    assert channels(connection) == 0
    await connection.close()


async def test_channels_are_closed_whatever_happens_on_them(service: Service) -> None:
    connection = await service.declare()
    inspector = Inspector(connection)
    await inspector.look(["nowhere", "tasks.high"])
    for error in (KeyError("a bug"), TimeoutError()):
        with pytest.raises((KeyError, BrokerUnavailable)):
            async with connection.channel():
                raise error
    subscription = Subscription(connection, WorkQueue("nowhere", Priority.LOW), on_delivery=lambda _: None)
    with pytest.raises(BrokerUnavailable, match=r"nowhere\.low cannot be opened\. RabbitMQ closed the channel: "):
        await subscription.open()
    await subscription.close()
    assert channels(connection) == 0
