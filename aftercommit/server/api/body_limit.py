"""Refuses bodies over a limit before they are in memory, and more bodies at a time than the process may hold."""

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aftercommit.core.errors import AftercommitError, BodyTimeout, BodyTooLarge, Overloaded
from aftercommit.server.api.problems import render

PAUSE_SECONDS: Final = 30.0
"""A client whose machine is gone says nothing any more: its half of a body would count for ever."""


class BodyLimit:
    """ASGI middleware: the declared length is checked first, then what really comes. A body counts until its request
    was answered."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_bytes_at_a_time: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_bytes_at_a_time = max_bytes_at_a_time
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await render(self._too_large())(scope, receive, send)
            return
        received = 0
        complete = False

        async def limited() -> Message:
            nonlocal received, complete
            # Of a body that comes in one piece, as most do, no clock is set.
            message = await (_soon(receive) if received and not complete else receive())
            complete = not message.get("more_body", False)
            if body := message.get("body"):
                received += len(body)
                self._held += len(body)
                if error := self._flaw(received):
                    raise error
            return message

        try:
            await self._app(scope, limited, send)
        finally:
            self._held -= received

    def _flaw(self, received: int) -> AftercommitError | None:
        if received > self._max_bytes:
            return self._too_large()
        # One that is there alone is always taken.
        if self._held > self._max_bytes_at_a_time and self._held > received:
            return Overloaded(
                f"This process holds {self._held} bytes of request bodies (API_MAX_BODIES_BYTES). Nothing was done: "
                "try again."
            )
        return None

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body has more than {self._max_bytes} bytes (API_MAX_BODY_BYTES). Send it in parts.")


async def _soon(receive: Receive) -> Message:
    """The next part of a body that has begun."""
    try:
        async with asyncio.timeout(PAUSE_SECONDS):
            return await receive()
    except TimeoutError:
        raise BodyTimeout(f"Nothing of the body came for {PAUSE_SECONDS:g} s. Send the request again.") from None
