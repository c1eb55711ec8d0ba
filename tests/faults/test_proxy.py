"""The proxy does to a connection what a network would."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.faults.proxy import ProxiedLink, Proxy


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    yield proxy
    proxy.close()


@asynccontextmanager
async def echo_through(
    proxy: Proxy,
) -> AsyncIterator[tuple[ProxiedLink, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A link to a server that sends back what it gets, and a connection through it."""

    serving = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with suppress(ConnectionError):
            while chunk := await reader.read(100):
                writer.write(chunk)
        await close(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = proxy.add(role="test", server="echo", target=lambda: port)
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    async with asyncio.timeout(20):
        yield link, reader, writer
    await close(writer)
    server.close()
    await asyncio.gather(*filter(None, serving))


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_bytes_pass_and_the_end_too(proxy: Proxy) -> None:
    async with echo_through(proxy) as (_, reader, writer):
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.write_eof()
        assert await reader.read() == b""


async def test_cut_resets_and_refuses_until_healed(proxy: Proxy) -> None:
    async with echo_through(proxy) as (link, reader, _):
        proxy.cut([link])
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        with pytest.raises(ConnectionResetError):
            await ask(link.port)
        proxy.heal()
        assert await ask(link.port) == b"x"


async def ask(port: int) -> bytes:
    """What a new connection answers to an x. The reset may come during the connect already."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"x")
        return await reader.readexactly(1)
    finally:
        await close(writer)


@pytest.mark.parametrize(("to_server", "to_role"), [(True, False), (False, True), (True, True)])
async def test_silenced_bytes_arrive_after_healing(proxy: Proxy, to_server: bool, to_role: bool) -> None:
    async with echo_through(proxy) as (link, reader, writer):
        proxy.silence([link], to_server=to_server, to_role=to_role)
        writer.write(b"late")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        proxy.heal()
        assert await reader.readexactly(4) == b"late"


async def test_latency_delays_each_way(proxy: Proxy) -> None:
    async with echo_through(proxy) as (link, reader, writer):
        proxy.slow([link], latency_seconds=0.1)
        started = asyncio.get_running_loop().time()
        writer.write(b"slow")
        await reader.readexactly(4)
        assert asyncio.get_running_loop().time() - started >= 0.2
