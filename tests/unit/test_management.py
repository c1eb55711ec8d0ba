"""The management API is asked as it wants to be, and never in a way that gives the broker's password away."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from aftercommit.broker import management
from aftercommit.broker.management import Management

QUEUES = [{"name": "tasks.high", "messages_unacknowledged": 7}, {"name": "tasks.low"}]


class Stub(HTTPServer):
    """Answers for RabbitMQ and keeps what it was asked; ``sent_on`` sends everybody on to there."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[tuple[str, str | None]] = []
        self.sent_on: str | None = None
        self.silent = threading.Event()

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"]))
        if self.server.sent_on is not None:
            self.send_response(302)
            self.send_header("Location", self.server.sent_on)
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(QUEUES).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stub() -> Iterator[Stub]:
    yield from serve()


@pytest.fixture
def elsewhere() -> Iterator[Stub]:
    yield from serve()


def serve() -> Iterator[Stub]:
    with Stub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def test_login_and_vhost_are_told_whatever_they_are_made_of(stub: Stub) -> None:
    asked = Management(f"http://us%40er:p%2Fss%3Aw@{stub.url}/prefix/", broker_url="amqp://host/a%2Fb")
    assert await asked.unacknowledged() == {"tasks.high": 7, "tasks.low": 0}
    [(path, login)] = stub.asked
    assert path.startswith("/prefix/api/queues/a%2Fb?")
    assert login is not None
    assert base64.b64decode(login.removeprefix("Basic ")) == b"us@er:p/ss:w"


async def test_nobody_s_login_is_none(stub: Stub) -> None:
    assert await Management(f"http://{stub.url}", broker_url="amqp://host").unacknowledged()
    [(path, login)] = stub.asked
    assert path.startswith("/api/queues/%2F?")
    assert login is None


async def test_login_stays_here_when_we_are_sent_on(stub: Stub, elsewhere: Stub) -> None:
    stub.sent_on = f"http://{elsewhere.url}/other"
    assert await Management(f"http://me:secret@{stub.url}", broker_url="amqp://host").unacknowledged()
    assert elsewhere.asked == [("/other", None)]


async def test_proxy_of_the_environment_is_not_for_the_broker(
    stub: Stub, elsewhere: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{elsewhere.url}")
    assert await Management(f"http://me:secret@{stub.url}", broker_url="amqp://host").unacknowledged()
    assert elsewhere.asked == []


async def test_nothing_is_known_when_it_does_not_answer(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(management, "SECONDS", 0.05)
    monkeypatch.setattr(Answer, "do_GET", lambda self: self.server.silent.wait(1))
    assert await Management(f"http://{stub.url}", broker_url="amqp://host").unacknowledged() == {}
