"""The HTTP server that the demo's tasks call: sometimes it fails, one endpoint always does."""

import asyncio
import random
from collections import defaultdict
from types import TracebackType
from typing import Self

from aiohttp import web

from aftercommit.devstack.ports import HOST, free_port

FAILURE_SHARE = 0.15
SHORTEST_SECONDS, LONGEST_SECONDS = 0.005, 0.040


class Receiver:
    """Remembers by key, the last part of the path, which statuses it answered."""

    def __init__(self) -> None:
        self.answers: dict[str, list[int]] = defaultdict(list)
        self._port = free_port()
        application = web.Application()
        application.router.add_post("/hooks/{key}", self._sometimes_fail)
        application.router.add_post("/always-fails/{key}", self._always_fail)
        self._runner = web.AppRunner(application, access_log=None)

    def url(self, key: str, *, always_fails: bool) -> str:
        return f"http://{HOST}:{self._port}/{'always-fails' if always_fails else 'hooks'}/{key}"

    @property
    def requests(self) -> int:
        return sum(map(len, self.answers.values()))

    def succeeded(self, key: str) -> bool:
        return any(200 <= status < 300 for status in self.answers.get(key, ()))

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self._port).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _sometimes_fail(self, request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(random.uniform(SHORTEST_SECONDS, LONGEST_SECONDS))
        return self._answer(request, random.choice((500, 503)) if random.random() < FAILURE_SHARE else 200)

    async def _always_fail(self, request: web.Request) -> web.Response:
        return self._answer(request, 500)

    def _answer(self, request: web.Request, status: int) -> web.Response:
        self.answers[request.match_info["key"]].append(status)
        return web.json_response({"received": status == 200}, status=status)
