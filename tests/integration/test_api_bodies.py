"""Requests that cannot be read, are too large or go nowhere: always a problem, never a 500."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from tests.integration.service import Service

JSON = {"Content-Type": "application/json"}
TASK = "0199a3c5-7e4b-7c11-9a55-0d9f4c5be7aa"


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/tasks/batch", f"/v1/tasks/{TASK}/complete", "/v1/outbox/requeue"])
async def test_body_is_refused_when_it_is_not_json(service: Service, path: str) -> None:
    api = await service.api()
    bodies = [b"", b"{", b'{"type": }', b"{'type': 'echo'}", b"\xff\xff", b'{"a": "\xff"}', b"[" * 100_000]
    bodies += [b'{"a": ' + b"9" * 5_000 + b"}", b'{"a": "\x01"}', b'{"a": 1} x', b"nope"]
    for body in bodies:
        problem = await api.refusal("POST", path, data=body, headers=JSON)
        assert (problem["status"], problem["code"]) == (400, "malformed-request"), body


async def test_body_is_refused_when_it_is_not_declared_as_json(service: Service) -> None:
    api = await service.api()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml", "multipart/form-data", "json"):
        problem = await api.refusal("POST", "/v1/tasks", data=b'{"type": "echo"}', headers={"Content-Type": kind})
        assert (problem["status"], problem["code"]) == (415, "unsupported-media-type")
        assert kind in problem["detail"]


async def test_body_is_taken_when_its_content_type_is_a_kind_of_json(service: Service) -> None:
    api = await service.api()
    for kind in ("application/json; charset=utf-8", "Application/JSON", "application/vnd.task+json"):
        answer = await api.ask("POST", "/v1/tasks", data=b'{"type": "echo"}', headers={"Content-Type": kind})
        assert answer.status == 201


async def test_body_is_refused_when_its_declared_length_is_over_the_limit(service: Service) -> None:
    api = await service.api(api_max_body_bytes=1_000, api_max_payload_bytes=1_000)
    body = b'{"type":"echo","payload":{"a":"%s"}}'
    room = 1_000 - len(body) + 2
    assert (await api.ask("POST", "/v1/tasks", data=body % (b"x" * room), headers=JSON)).status == 201
    problem = await api.refusal("POST", "/v1/tasks", data=body % (b"x" * (room + 1)), headers=JSON)
    assert (problem["status"], problem["code"]) == (413, "body-too-large")
    assert "1000 bytes (API_MAX_BODY_BYTES)" in problem["detail"]


async def test_body_is_refused_when_its_chunks_are_over_the_limit(service: Service) -> None:
    api = await service.api(api_max_body_bytes=1_000, api_max_payload_bytes=1_000)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 100

    problem = await api.refusal("POST", "/v1/tasks", data=chunks(), headers=JSON)
    assert (problem["status"], problem["code"]) == (413, "body-too-large")
    # The connection is as good as before.
    assert (await api.submit("echo"))["status"] == "queued"


async def test_api_stays_quiet_when_a_client_leaves_in_the_middle_of_its_body(
    service: Service, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    api = await service.api()
    address = urlsplit(api.url)
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(
        b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await api.submit("echo")
    assert "request_failed" not in capsys.readouterr().out
    assert caplog.records == []


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/nothing", "/v1/tasks/nonsense", f"/v1/tasks/{TASK}/nothing", "/v1/tasks/%00"]
)
async def test_problem_is_not_found_when_there_is_no_such_path(service: Service, path: str) -> None:
    api = await service.api()
    problem = await api.refusal("GET", path)
    assert (problem["status"], problem["code"]) == (404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/tasks", {"GET", "POST"}),
        ("GET", "/v1/tasks/batch", {"POST"}),
        ("POST", f"/v1/tasks/{TASK}", {"GET"}),
        ("GET", f"/v1/tasks/{TASK}/cancel", {"POST"}),
        ("PUT", "/v1/queues", {"GET"}),
        ("GET", "/v1/outbox/requeue", {"POST"}),
        ("POST", "/healthz", {"GET"}),
    ],
)
async def test_problem_names_the_methods_there_are_when_another_is_used(
    service: Service, method: str, path: str, allowed: set[str]
) -> None:
    api = await service.api()
    answer = await api.ask(method, path)
    assert (answer.status, answer.body["code"]) == (405, "method-not-allowed")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(answer.headers["Allow"].split(", ")) == allowed


async def test_problem_names_the_task_when_there_is_none(service: Service) -> None:
    api = await service.api()
    asked = [("GET", ""), ("GET", "?wait=60"), ("GET", "/attempts"), ("POST", "/cancel"), ("POST", "/retry")]
    for method, rest in asked:
        problem = await api.refusal(method, f"/v1/tasks/{TASK}{rest}")
        assert (problem["status"], problem["code"]) == (404, "task-not-found")
        assert TASK in problem["detail"]
    problem = await api.refusal("POST", f"/v1/tasks/{TASK}/complete", {"result": 1})
    assert problem["code"] == "task-not-found"
