"""The API's log tells why requests are refused for reasons of ours: enough to find the cause, and no flood."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from aftercommit.server.api import outage_log
from tests.integration.service import Service
from tests.integration.tcp_proxy import TcpProxy

SECRET = "hunter2-secret"


@pytest.fixture
async def proxy(service: Service) -> AsyncIterator[TcpProxy]:
    made = TcpProxy(service.settings.postgres_host, service.settings.postgres_port)
    yield made
    await made.stop()


def lines(logs: list[Any], event: str) -> list[dict[str, Any]]:
    return [line for line in logs if line["event"] == event]


async def test_cause_of_a_503_is_logged_with_its_traceback(service: Service) -> None:
    with capture_logs() as logs:
        api = await service.api(postgres_password=SECRET)
        answer = await api.ask("POST", "/v1/tasks", {"type": "echo"})
    assert (answer.status, answer.body["code"]) == (503, "database-unavailable")
    assert "refuses the login" in answer.body["detail"]
    [line] = lines(logs, "requests_refused")
    assert (line["code"], line["sqlstate"], line["path"]) == ("database-unavailable", "28P01", "/v1/tasks")
    assert line["error"].startswith("InvalidPasswordError: ")
    assert line["exc_info"].__cause__ is not None
    assert SECRET not in str(answer.body) + str(logs)


async def test_many_503_are_one_line_each_for_begin_and_end(
    service: Service, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = await service.api(postgres_host="127.0.0.1", postgres_port=proxy.port)
    with capture_logs() as logs:
        for _ in range(5):
            answers = await asyncio.gather(*(api.ask("POST", "/v1/tasks", {"type": "echo"}) for _ in range(40)))
            assert {answer.status for answer in answers} == {503}
        assert len(lines(logs, "requests_refused")) == 1
        monkeypatch.setattr(outage_log, "QUIET_SECONDS", 0.5)
        await proxy.start()
        await api.submit("echo")
        async with asyncio.timeout(10):
            while not (over := lines(logs, "requests_no_longer_refused")):
                await asyncio.sleep(0.02)
    assert [line["requests"] for line in over] == [200]


async def test_different_causes_have_a_line_each(service: Service) -> None:
    await service.query(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = NEW.type; END $$"
    )
    await service.query("CREATE TRIGGER fail BEFORE INSERT ON aftercommit.tasks FOR EACH ROW EXECUTE FUNCTION fail()")
    api = await service.api()
    with capture_logs() as logs:
        details = []
        # The type names the SQLSTATE: disk full, deadlock, statement timeout.
        for sqlstate, condition in (
            ("53100", "disk_full"),
            ("40P01", "deadlock_detected"),
            ("57014", "query_canceled"),
        ):
            problem = await api.refusal("POST", "/v1/tasks", {"type": condition})
            assert problem["status"] == 503
            details.append(problem["detail"])
            assert lines(logs, "requests_refused")[-1]["sqlstate"] == sqlstate
    assert len(set(details)) == 3
    assert len(lines(logs, "requests_refused")) == 3
    assert problem["code"] == "database-timeout"


async def test_timeout_says_when_to_try_again(service: Service) -> None:
    api = await service.api()
    await service.query(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = 'query_canceled'; END $$"
    )
    await service.query("CREATE TRIGGER fail BEFORE INSERT ON aftercommit.tasks FOR EACH ROW EXECUTE FUNCTION fail()")
    answer = await api.ask("POST", "/v1/tasks", {"type": "echo"})
    assert (answer.status, answer.body["code"]) == (503, "database-timeout")
    assert int(answer.headers["Retry-After"]) >= 1
