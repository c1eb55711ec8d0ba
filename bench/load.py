"""The load, in a process of its own: ``python -m bench.load`` reads an ``Order`` from stdin, prints a ``Receipt``.

A Python HTTP client costs more than the server that it is to measure. So requests are encoded once and written as
they are on keep-alive connections, and of the answers only the status and the length are read.
"""

import asyncio
import json
import sys
import time
from bisect import bisect
from dataclasses import asdict, dataclass
from typing import Final

import uvloop

from aftercommit.devstack.ports import HOST
from bench.http import Connection, encode_request
from bench.throttle import watch_oldest

STAMP: Final = "%.6f"
"""In a body: becomes the time at which the request is sent, as a Unix time in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """``requests`` times ``body``. With a ``rate`` (requests/s) they go out by the clock, whatever the answers take;
    without, each connection sends the next one when it has its answer.

    ``patience_seconds`` after the last request of a ``rate`` was due, answers that are missing are given up.
    ``dsn`` bounds the backlog: nothing is sent while ``most_ahead`` requests were sent since the oldest unfinished task
    was made. A number, since the age of that task would only fall when everything is done and every stage idle.
    """

    port: int
    path: str
    body: str
    requests: int
    connections: int
    rate: float | None = None
    stamped: bool = False
    host: str = HOST
    patience_seconds: float | None = None
    dsn: str | None = None
    most_ahead: int = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Times are Unix times. ``late_seconds``: how far the load itself fell behind its clock, at worst."""

    first_sent_at: float
    last_answered_at: float
    late_seconds: float


class Refused(Exception):
    """The API did not answer 201."""


class Load:
    """Sends one order."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._request = encode_request(order.host, order.port, order.path, order.body, stamped=order.stamped)
        self._connections: list[Connection] = []
        self._free: list[Connection] = []
        self._due: list[float] = []
        self._unsent = order.requests if order.rate is None else 0
        self._unanswered = order.requests
        self._first_sent_at = 0.0
        self._late_seconds = 0.0
        self._paused = False
        self._sent: list[float] = []
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> Receipt:
        """Raises Refused or ConnectionError."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for _ in range(self._order.connections):
                await self._connect()
            beside = [group.create_task(self._watch_backlog())]
            if self._order.rate is not None:
                beside.append(group.create_task(self._keep_time(self._order.rate)))
            await self._done
            for task in beside:
                task.cancel()
            for connection in self._connections:
                connection.close()
        return Receipt(
            first_sent_at=self._first_sent_at,
            last_answered_at=time.time(),
            late_seconds=self._late_seconds,
        )

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: Connection(on_answer=self._answered, on_lost=self._lost), self._order.host, self._order.port
        )
        self._connections.append(connection)
        self._free.append(connection)
        self._send_what_may()

    async def _keep_time(self, rate: float) -> None:
        start = time.time()
        for number in range(self._order.requests):
            due = start + number / rate
            if (wait := due - time.time()) > 0:
                await asyncio.sleep(wait)
            now = time.time()
            self._late_seconds = max(self._late_seconds, now - due)
            self._due.append(now)
            self._unsent += 1
            self._send_what_may()
        if self._order.patience_seconds is not None:
            await asyncio.sleep(self._order.patience_seconds)
            self._finish()

    def _send_what_may(self) -> None:
        while self._unsent and self._free and not self._paused:
            self._unsent -= 1
            # What waited for a connection was meant to be sent earlier: that wait is latency too.
            sent_at = self._due.pop(0) if self._due else time.time()
            self._first_sent_at = self._first_sent_at or sent_at
            if self._order.dsn is not None:
                self._sent.append(sent_at)
            self._free.pop().send(self._request % sent_at if self._order.stamped else self._request)

    def _answered(self, connection: Connection, status: int) -> None:
        if status != 201:
            self._fail(Refused(f"{self._order.path} answered {status}"))
            return
        self._unanswered -= 1
        self._free.append(connection)
        if not self._unanswered:
            self._finish()
        self._send_what_may()

    async def _watch_backlog(self) -> None:
        if self._order.dsn is not None:
            await watch_oldest(self._order.dsn, on_look=self._pause)

    def _pause(self, oldest: float | None) -> None:
        """Or go on; what counts is what was sent since ``oldest``."""
        ahead = len(self._sent) - bisect(self._sent, oldest) if oldest is not None else 0
        self._paused = ahead >= self._order.most_ahead
        self._send_what_may()

    def _lost(self, connection: Connection, error: Exception) -> None:
        """One that idled while the load paused is replaced."""
        if connection.busy:
            self._fail(error)
        elif connection in self._free and not self._done.done():
            self._free.remove(connection)
            self._group.create_task(self._connect())

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _fail(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(error)


async def run(order: Order) -> Receipt:
    return await Load(order).run()


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(run(Order(**json.load(sys.stdin)))))))
