"""The least of HTTP/1.1 that a load needs: requests encoded once, answers read for their status and length."""

import asyncio
import re
from collections.abc import Callable
from typing import Final, cast

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def encode_request(host: str, port: int, path: str, body: str, *, stamped: bool = False) -> bytes:
    """A POST of JSON. ``stamped``: the body holds one ``%.6f`` for a Unix time, to be filled in with ``%``."""
    length = len((body % 1_700_000_000.0).encode()) if stamped else len(body.encode())
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: {length}"
    return f"{head}\r\n\r\n{body}".encode()


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way.

    ``on_answer(connection, status)`` follows each ``send``; ``on_lost(connection, error)`` tells its end, which is no
    fault while it is not ``busy``: servers close what idles. An answer without a length counts as an end.
    """

    def __init__(
        self,
        *,
        on_answer: Callable[["Connection", int], None],
        on_lost: Callable[["Connection", Exception], None],
    ) -> None:
        self.busy = False
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._head = b""
        self._status = 0
        self._missing: int | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost(self, exc or ConnectionError("the API closed a connection"))

    def send(self, request: bytes) -> None:
        assert self._transport is not None
        self.busy = True
        self._transport.write(request)

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._missing is None:
            self._head += data
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            length = _LENGTH.search(head)
            if length is None:
                self._on_lost(self, ValueError("an answer without Content-Length"))
                return
            self._status = int(head[9:12])
            self._missing = int(length[1]) - len(rest)
        else:
            self._missing -= len(data)
        if self._missing <= 0:
            self._head, self._missing, self.busy = b"", None, False
            self._on_answer(self, self._status)
