"""Refuses bodies over a limit before they are in memory."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aftercommit.core.errors import BodyTooLarge
from aftercommit.server.api.problems import render


class BodyLimit:
    """ASGI middleware: the declared length is checked first, then what really comes."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await render(self._error())(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise self._error()
            return message

        await self._app(scope, limited, send)

    def _error(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body has more than {self._max_bytes} bytes (API_MAX_BODY_BYTES). Send it in parts.")
