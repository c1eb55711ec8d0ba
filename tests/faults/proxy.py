"""TCP links between a role and a server that can be cut, silenced one way or both, delayed and throttled."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

import uvloop

from aftercommit.devstack.failure import DevstackError
from aftercommit.devstack.ports import HOST

T = TypeVar("T")

CHUNK_BYTES: Final = 65_536
CHUNKS_UNDER_WAY: Final = 64
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Direction:
    """One way of a link. Bytes that are held back arrive when it opens again, as TCP would send them again."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.latency_seconds = 0.0
        self.bytes_per_second: float | None = None


class ProxiedLink:
    """Listens on ``port`` and forwards to the server at ``target()``. Its methods belong to the proxy's thread; use
    it through ``Proxy``."""

    def __init__(self, *, role: str, server: str, target: Callable[[], int]) -> None:
        self.role = role
        self.server = server
        self.port = 0
        self.to_server = Direction()
        self.to_role = Direction()
        self.refusing = False
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None

    async def listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, HOST, 0, limit=CHUNK_BYTES)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self.reset()

    def reset(self) -> None:
        """End every connection with a TCP reset on both sides."""
        for writer in list(self._writers):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self.refusing:
                _reset(writer)
                return
            # A silenced network shows a role nothing, not even that the server refuses.
            await self.to_server.open.wait()
            await self._join(reader, writer)
        except (OSError, ValueError, DevstackError, asyncio.CancelledError):
            # The latter of errors: the server is being started and has no port yet.
            _reset(writer)
        finally:
            self._writers.discard(writer)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(HOST, self._target(), limit=CHUNK_BYTES)
        self._writers.add(server_writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, server_writer, self.to_server))
                group.create_task(_pump(server_reader, writer, self.to_role))
        except* OSError:
            pass
        finally:
            self._writers.discard(server_writer)
            for each in (writer, server_writer):
                each.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
    """Forward until the reader's end, and then that end too."""
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_UNDER_WAY)
    loop = asyncio.get_running_loop()

    async def read() -> None:
        chunk = b"-"
        while chunk:
            try:
                chunk = await reader.read(CHUNK_BYTES)
            except ConnectionError:  # as good as an end; a silenced role must not learn of it before its time
                chunk = b""
            await under_way.put((loop.time() + direction.latency_seconds, chunk))

    async def write() -> None:
        while True:
            due, chunk = await under_way.get()
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            await direction.open.wait()
            if writer.is_closing():
                raise ConnectionResetError("the other side is gone")
            if not chunk:
                writer.write_eof()
                return
            writer.write(chunk)
            await writer.drain()
            if direction.bytes_per_second is not None:
                await asyncio.sleep(len(chunk) / direction.bytes_per_second)

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        group.create_task(write())


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError, ValueError):  # uvloop's word for a socket that is closed already
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()


class Proxy:
    """All links, on an event loop in a thread of its own: a busy test must not slow the network down."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._links: list[ProxiedLink] = []
        self._thread.start()

    def add(self, *, role: str, server: str, target: Callable[[], int]) -> ProxiedLink:
        link = self._run(_listening(role, server, target))
        self._links.append(link)
        return link

    def links(self, *, server: str | None = None, roles: Iterable[str] | None = None) -> list[ProxiedLink]:
        """The links to a server (None: both) from these roles (None: all)."""
        wanted = None if roles is None else set(roles)
        return [
            link
            for link in self._links
            if (server is None or link.server == server) and (wanted is None or link.role in wanted)
        ]

    def cut(self, links: Iterable[ProxiedLink]) -> None:
        """Reset what is connected and refuse what comes, until ``heal``."""

        def apply(link: ProxiedLink) -> None:
            link.refusing = True
            link.reset()

        self._change(links, apply)

    def reset(self, links: Iterable[ProxiedLink]) -> None:
        """Reset what is connected, once."""
        self._change(links, lambda link: link.reset())

    def silence(self, links: Iterable[ProxiedLink], *, to_server: bool = True, to_role: bool = True) -> None:
        """Let nothing through in these directions; nobody is told. ``heal`` ends it."""

        def apply(link: ProxiedLink) -> None:
            if to_server:
                link.to_server.open.clear()
            if to_role:
                link.to_role.open.clear()

        self._change(links, apply)

    def slow(
        self, links: Iterable[ProxiedLink], *, latency_seconds: float = 0, bytes_per_second: float | None = None
    ) -> None:
        """Each way: what comes in goes on ``latency_seconds`` later, and no faster than ``bytes_per_second``."""

        def apply(link: ProxiedLink) -> None:
            for direction in (link.to_server, link.to_role):
                direction.latency_seconds = latency_seconds
                direction.bytes_per_second = bytes_per_second

        self._change(links, apply)

    def heal(self, links: Iterable[ProxiedLink] | None = None) -> None:
        """These links (None: all) as new."""

        def apply(link: ProxiedLink) -> None:
            link.refusing = False
            for direction in (link.to_server, link.to_role):
                direction.latency_seconds, direction.bytes_per_second = 0.0, None
                direction.open.set()

        self._change(self._links if links is None else links, apply)

    def close(self) -> None:
        self._run(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _shut_down(self) -> None:
        for link in self._links:
            await link.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def _change(self, links: Iterable[ProxiedLink], change: Callable[[ProxiedLink], None]) -> None:
        async def apply() -> None:
            for link in list(links):
                change(link)

        self._run(apply())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


async def _listening(role: str, server: str, target: Callable[[], int]) -> ProxiedLink:
    link = ProxiedLink(role=role, server=server, target=target)
    await link.listen()
    return link
