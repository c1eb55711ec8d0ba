"""What the process counts of bodies, whatever becomes of those who send them."""

import asyncio
import json
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from aftercommit.core.errors import BodyTimeout
from aftercommit.server.api import body_limit
from aftercommit.server.api.body_limit import BodyLimit

SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": []}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(json.dumps(len(body)))(scope, receive, send)


async def ask(limit: BodyLimit, *parts: Message) -> list[Any]:
    """What the client gets; after its parts it says nothing more."""
    coming, sent = list(parts), []

    async def receive() -> Message:
        return coming.pop(0) if coming else await asyncio.Future()

    async def send(message: Message) -> None:
        sent.append(message)

    await limit(dict(SCOPE), receive, send)
    return sent


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_body_of_a_client_that_is_gone_counts_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "PAUSE_SECONDS", 0.02)
    limit = BodyLimit(app, max_bytes=1_000, max_bytes_at_a_time=1_500)
    for _ in range(3):
        with pytest.raises(BodyTimeout):
            async with asyncio.timeout(5):
                await ask(limit, part(b"x" * 900, more=True))
    answer = await ask(limit, part(b"x" * 900, more=True), part(b"x" * 100, more=False))
    assert answer[1]["body"] == b"1000"


async def test_request_that_is_complete_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "PAUSE_SECONDS", 0.01)

    async def watching(scope: Scope, receive: Receive, _: Send) -> None:
        request = Request(scope, receive)
        await request.body()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await request.receive()

    await ask(BodyLimit(watching, max_bytes=1_000, max_bytes_at_a_time=1_500), part(b"x" * 900, more=False))
