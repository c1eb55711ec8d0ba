"""The load of the benchmarks against a server of this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from aftercommit.devstack.ports import HOST
from bench.load import Order, run

ANSWER = b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\nnull"


class Server(asyncio.Protocol):
    """Answers as many requests as ``left`` holds, over all connections, and keeps silent to the others."""

    def __init__(self, left: list[bytes]) -> None:
        self._left = left

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, _: bytes) -> None:
        if self._left:
            self._transport.write(self._left.pop())


@asynccontextmanager
async def served(*, answers: int) -> AsyncIterator[int]:
    """The port of such a server."""
    left = [ANSWER] * answers
    server = await asyncio.get_running_loop().create_server(lambda: Server(left), HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.sleep(0.05)  # both ends of a connection see its end


def make_order(port: int, *, patience_seconds: float) -> Order:
    return Order(
        port=port,
        path="/tasks",
        body="{}",
        requests=10,
        connections=2,
        rate=1_000,
        patience_seconds=patience_seconds,
    )


async def test_load_ends_with_the_last_answer_when_all_are_answered() -> None:
    async with served(answers=10) as port, asyncio.timeout(10):
        receipt = await run(make_order(port, patience_seconds=60))
    assert receipt.last_answered_at - receipt.first_sent_at < 10


async def test_load_gives_up_after_its_patience_when_answers_are_missing() -> None:
    async with served(answers=3) as port, asyncio.timeout(10):
        receipt = await run(make_order(port, patience_seconds=0.2))
    assert receipt.last_answered_at - receipt.first_sent_at >= 0.2
