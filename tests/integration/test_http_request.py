"""``http.request`` against a receiver of the test's own."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from aftercommit import Fail, InvalidPayload, Retry
from aftercommit.devstack.ports import free_port
from aftercommit.handlers.http_request import HttpRequests
from tests.factories import a_context

LIMIT = 1_000
CONTEXT = a_context(type="http.request")
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Receiver:
    """Answers with what the test set; keeps what came."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.answer: Answer = self.respond()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        self.server = TestServer(app)

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        return await self.answer(request)

    @staticmethod
    def respond(status: int = 200, body: bytes = b"", **headers: str) -> Answer:
        async def answer(request: web.Request) -> web.Response:
            return web.Response(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

        return answer

    def url(self, path: str = "/hook") -> str:
        return str(self.server.make_url(path))


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    await made.server.start_server()
    yield made
    await made.server.close()


@pytest.fixture
async def http() -> AsyncIterator[HttpRequests]:
    made = HttpRequests(allow_private_addresses=True, max_response_bytes=LIMIT)
    yield made
    await made.close()


@pytest.fixture
async def guarded() -> AsyncIterator[HttpRequests]:
    """One that refuses private addresses, as by default."""
    made = HttpRequests(allow_private_addresses=False, max_response_bytes=LIMIT)
    yield made
    await made.close()


async def request(http: HttpRequests, **payload: Any) -> Any:
    """Run the handler as a worker does: payload checked, then called."""
    handler = http.handler()
    return await handler.function(**handler.arguments(payload, CONTEXT))


@pytest.mark.parametrize("status", [200, 201, 204, 299])
async def test_request_succeeds_when_the_answer_is_2xx(receiver: Receiver, http: HttpRequests, status: int) -> None:
    receiver.answer = receiver.respond(status, b"" if status == 204 else b"thanks")
    url = receiver.url() + "?a=1&b=%2F"
    result = await request(http, url=url, json={"order": 4711}, headers={"X-Shop": "berlin"})
    assert result == {"status": status, "body": "" if status == 204 else "thanks"}
    [got] = receiver.requests
    assert (got.method, got.raw_path, receiver.bodies) == ("POST", "/hook?a=1&b=%2F", [b'{"order": 4711}'])
    assert (got.headers["X-Shop"], got.headers["Content-Type"]) == ("berlin", "application/json")
    assert got.headers["Idempotency-Key"] == str(CONTEXT.task_id)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_request_has_no_body_when_no_json_is_given(receiver: Receiver, http: HttpRequests, method: str) -> None:
    assert (await request(http, url=receiver.url(), method=method))["status"] == 200
    assert [got.method for got in receiver.requests] == [method]
    assert receiver.bodies == [b""]


async def test_header_of_the_task_wins_when_it_is_spelt_otherwise(receiver: Receiver, http: HttpRequests) -> None:
    await request(http, url=receiver.url(), headers={"idempotency-key": "mine"})
    assert receiver.requests[0].headers.getall("Idempotency-Key") == ["mine"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
async def test_request_is_retried_when_the_receiver_is_in_trouble(
    receiver: Receiver, http: HttpRequests, status: int
) -> None:
    receiver.answer = receiver.respond(status)
    with pytest.raises(Retry, match=rf"^POST http://127\.0\.0\.1:\d+ answered {status}$") as caught:
        await request(http, url=receiver.url("/secret-token"))
    assert caught.value.after is None


async def test_retry_waits_as_told_when_the_receiver_says_how_long(receiver: Receiver, http: HttpRequests) -> None:
    receiver.answer = receiver.respond(429, Retry_After="17")
    with pytest.raises(Retry) as caught:
        await request(http, url=receiver.url())
    assert caught.value.after == 17
    moment = datetime.now(UTC) + timedelta(minutes=2)
    receiver.answer = receiver.respond(503, Retry_After=format_datetime(moment, usegmt=True))
    with pytest.raises(Retry) as caught:
        await request(http, url=receiver.url())
    assert caught.value.after is not None
    assert 100 < caught.value.after <= 121


@pytest.mark.parametrize("status", [300, 304, 400, 401, 403, 404, 409, 410, 422, 499])
async def test_request_fails_for_good_when_the_answer_is_final(
    receiver: Receiver, http: HttpRequests, status: int
) -> None:
    receiver.answer = receiver.respond(status, b"" if status == 304 else b"no such hook")
    with pytest.raises(Fail, match=rf"answered {status}: " + ("" if status == 304 else "no such hook")):
        await request(http, url=receiver.url())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(receiver: Receiver, http: HttpRequests, status: int) -> None:
    receiver.answer = receiver.respond(status, Location="/elsewhere")
    with pytest.raises(Fail, match=f"answered {status}"):
        await request(http, url=receiver.url())
    assert [got.path for got in receiver.requests] == ["/hook"]


async def test_body_is_cut_when_it_is_over_the_limit(receiver: Receiver, http: HttpRequests) -> None:
    receiver.answer = receiver.respond(200, b"a" * (LIMIT - 1) + "ä".encode() + b"b" * 100)
    result = await request(http, url=receiver.url())
    assert result["body"] == "a" * (LIMIT - 1) + "\N{REPLACEMENT CHARACTER}"
    receiver.answer = receiver.respond(200, b"a" * LIMIT)
    assert (await request(http, url=receiver.url()))["body"] == "a" * LIMIT


async def test_request_ends_when_the_body_never_does(receiver: Receiver, http: HttpRequests) -> None:
    async def endless(got: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(got)
        while got.transport is not None:
            await response.write(b"x" * 100)
            await asyncio.sleep(0)
        return response

    receiver.answer = endless
    async with asyncio.timeout(10):
        assert (await request(http, url=receiver.url()))["body"] == "x" * LIMIT


async def test_cookies_are_not_kept_between_tasks(receiver: Receiver, http: HttpRequests) -> None:
    receiver.answer = receiver.respond(200, Set_Cookie="session=1")
    for _ in range(2):
        await request(http, url=receiver.url())
    assert all("Cookie" not in got.headers for got in receiver.requests)


async def test_request_is_retried_when_nobody_listens(http: HttpRequests) -> None:
    with pytest.raises(Retry, match="no connection: "):
        await request(http, url=f"http://127.0.0.1:{free_port()}/")


async def test_request_is_retried_when_the_name_does_not_resolve(
    http: HttpRequests, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch)
    with pytest.raises(Retry, match="no connection: "):
        await request(http, url="http://hooks.example/")


async def test_request_is_retried_when_the_connection_breaks(receiver: Receiver, http: HttpRequests) -> None:
    async def hang_up(got: web.Request) -> web.StreamResponse:
        assert got.transport is not None
        got.transport.abort()
        return web.Response()

    receiver.answer = hang_up
    with pytest.raises(Retry, match="the connection failed: "):
        await request(http, url=receiver.url())


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name but addresses resolve to these; to nothing at all when there are none."""

    def getaddrinfo(host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no such host")
        kinds = [(socket.AF_INET6 if ":" in address else socket.AF_INET, address) for address in addresses]
        return [
            (kind, socket.SOCK_STREAM, 6, "", (address, port, 0, 0) if kind == socket.AF_INET6 else (address, port))
            for kind, address in kinds
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:a00:1]", "10.0.0.1", "0.0.0.0", "127.1"]
)
async def test_private_address_is_refused_for_good_when_it_is_not_allowed(
    receiver: Receiver, guarded: HttpRequests, host: str
) -> None:
    with pytest.raises(Fail, match="the host has no public address; HTTP_ALLOW_PRIVATE_ADDRESSES=true would"):
        await request(guarded, url=f"http://{host}:{receiver.server.port}/")
    assert receiver.requests == []


@pytest.mark.parametrize(
    "addresses",
    [("127.0.0.1",), ("::1", "127.0.0.1"), ("127.0.0.1", "10.0.0.1", "::1"), ("::ffff:127.0.0.1",), ("fe80::1",)],
)
async def test_name_is_refused_for_good_when_it_leads_to_private_addresses(
    receiver: Receiver, guarded: HttpRequests, monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]
) -> None:
    resolve_to(monkeypatch, *addresses)
    with pytest.raises(Fail, match="the host has no public address"):
        await request(guarded, url=f"http://hooks.example:{receiver.server.port}/")
    assert receiver.requests == []


async def test_name_is_followed_when_private_addresses_are_allowed(
    receiver: Receiver, http: HttpRequests, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, "127.0.0.1")
    assert (await request(http, url=f"http://hooks.example:{receiver.server.port}/"))["status"] == 200
    assert receiver.requests[0].headers["Host"] == f"hooks.example:{receiver.server.port}"


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({}, "url: Field required"),
        ({"url": "ftp://example.com/"}, "url: URL scheme should be 'http' or 'https'"),
        ({"url": "nonsense"}, "url: Input should be a valid URL"),
        ({"url": "http://example.com/", "method": "TRACE"}, "method: Input should be 'GET'"),
        ({"url": "http://example.com/", "headers": {"A": 1}}, "headers.A: Input should be a valid string"),
        ({"url": "http://example.com/", "body": "x"}, "body: Extra inputs are not permitted"),
    ],
)
async def test_error_names_the_field_when_the_payload_does_not_fit(
    http: HttpRequests, payload: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidPayload, match=f"the payload does not fit http.request: {told}"):
        await request(http, **payload)


@pytest.mark.parametrize("headers", [{"A": "b\r\nC: d"}, {"A\r\nB": "c"}])
async def test_request_fails_for_good_when_a_header_would_smuggle_another(
    receiver: Receiver, http: HttpRequests, headers: dict[str, str]
) -> None:
    with pytest.raises(Fail, match="the request cannot be made"):
        await request(http, url=receiver.url(), headers=headers)
    assert receiver.requests == []
