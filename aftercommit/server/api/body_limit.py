"""Refuses bodies over a limit before they are in memory, and more bodies at a time than the process may hold."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aftercommit.core.errors import AftercommitError, BodyTooLarge, Overloaded
from aftercommit.server.api.problems import render


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

        async def limited() -> Message:
            nonlocal received
            message = await receive()
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
