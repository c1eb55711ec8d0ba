"""An HTTP proxy in front of the API that now and then answers itself, or loses an answer."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import aiohttp
from aiohttp import web

FORWARDED: Final = ("Content-Type", "Idempotency-Key", "Authorization", "Retry-After", "Idempotency-Replayed")


class Trouble(Enum):
    """What becomes of a request: whether the API gets it, and what the client gets."""

    NONE = "the API's answer"
    BUSY = "503 without asking the API"
    TOO_MANY = "429 without asking the API"
    ANSWER_REPLACED = "502 after the API was asked"
    ANSWER_LOST = "the end of the connection after the API was asked"


@dataclass
class AnsweringProxy:
    """``seen`` has the headers of every request, ``met`` what became of it."""

    url: str = ""
    seen: list[dict[str, str]] = field(default_factory=list)
    met: list[Trouble] = field(default_factory=list)


@asynccontextmanager
async def answering_proxy(
    target: str, *troubles: Trouble, retry_after: str | None = None
) -> AsyncIterator[AnsweringProxy]:
    """In front of ``target``. ``troubles`` come in turn, again and again; ``retry_after`` goes with 503 and 429."""
    proxy = AnsweringProxy()
    turns = itertools.cycle(troubles or (Trouble.NONE,))
    async with aiohttp.ClientSession() as session:

        async def answer(request: web.Request) -> web.StreamResponse:
            proxy.seen.append(dict(request.headers))
            trouble = next(turns)
            proxy.met.append(trouble)
            match trouble:
                case Trouble.BUSY | Trouble.TOO_MANY:
                    headers = {"Retry-After": retry_after} if retry_after is not None else {}
                    return web.Response(status=503 if trouble is Trouble.BUSY else 429, text="busy", headers=headers)
                case Trouble.NONE:
                    return await _forwarded(request, session, target)
            await _forwarded(request, session, target)
            if trouble is Trouble.ANSWER_LOST and request.transport is not None:
                request.transport.abort()
            return web.Response(status=502, text="bad gateway")

        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield proxy
        finally:
            await runner.cleanup()


async def _forwarded(request: web.Request, session: aiohttp.ClientSession, target: str) -> web.Response:
    headers = {name: request.headers[name] for name in FORWARDED if name in request.headers}
    body = await request.read()
    async with session.request(request.method, target + request.path_qs, headers=headers, data=body) as answer:
        passed = {name: answer.headers[name] for name in FORWARDED if name in answer.headers}
        return web.Response(status=answer.status, body=await answer.read(), headers=passed)
