"""A way to a server that a test can cut, silence and mend, while the server itself goes on for others."""

import asyncio
from contextlib import suppress

from aftercommit.devstack.ports import free_port


class TcpProxy:
    """Forwards its port to a server once it was started; ``stop`` cuts every connection and listens no more.

    After ``silence`` it accepts connections and forwards nothing, until ``speak``. What it forwards comes
    ``delay_seconds`` later.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.port = free_port()
        self.delay_seconds = 0.0
        self._server: asyncio.Server | None = None
        self._cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._speaking = asyncio.Event()
        self._speaking.set()

    async def start(self) -> None:
        self._cut = False
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def silence(self) -> None:
        self._speaking.clear()

    def speak(self) -> None:
        self._speaking.set()

    async def stop(self) -> None:
        if self._server is None:
            return
        self._cut = True
        self.speak()
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        # From Python 3.12 on it waits until the last connection has ended.
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:  # it was accepted just before
            writer.transport.abort()
            return
        # Before the way on is open: ``stop`` cuts a connection that is being made, too.
        self._writers.add(writer)
        try:
            await self._connect(reader, writer)
        finally:
            self._writers.discard(writer)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        self._writers.add(far_writer)
        try:
            await asyncio.gather(self._forward(reader, far_writer), self._forward(far_reader, writer))
        finally:
            self._writers.discard(far_writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                await self._speaking.wait()
                await asyncio.sleep(self.delay_seconds)
                writer.write(data)
                await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
