"""Wait for a task, cancel it, send it out again, record its outcome by hand."""

import asyncio
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from aftercommit.devstack.ports import free_port
from aftercommit.server.api.run import serve
from tests.integration.service import Api, Service

CLAIMED = "status = 'running', attempt = attempt + 1, worker = 'somebody', started_at = now()"
ERROR = """'{"type": "A", "message": "b", "traceback": null}'"""
STATES = {
    "scheduled": "status = 'scheduled', dispatch = 0, enqueued = false, due_at = now() + interval '1 hour'",
    "queued": "status = 'queued'",
    "running": CLAIMED,
    "retrying": f"status = 'retrying', attempt = 1, dispatch = 2, error = {ERROR}",
    "succeeded": "status = 'succeeded', attempt = 1, worker = 'somebody', started_at = now(), finished_at = now()",
    "failed": f"status = 'failed', attempt = 1, finished_at = now(), error = {ERROR}",
    "cancelled": f"status = 'cancelled', finished_at = now(), error = {ERROR}",
    "expired": f"status = 'expired', finished_at = now(), error = {ERROR}",
}
FINAL = ("succeeded", "failed", "cancelled", "expired")


async def submit_in(service: Service, api: Api, state: str) -> str:
    """A task that somebody brought into this state; nothing of it is in the outbox."""
    task_id = (await api.submit("echo", priority="high"))["id"]
    await service.query(f"UPDATE aftercommit.tasks SET {STATES[state]} WHERE id = '{task_id}'")
    await service.query("DELETE FROM aftercommit.outbox_rows")
    return str(task_id)


async def outbox(service: Service) -> list[tuple[Any, ...]]:
    rows = await service.query(
        "SELECT destination, work_queue, dispatches[1], dead_reason FROM aftercommit.outbox_rows ORDER BY id"
    )
    return [tuple(row) for row in rows]


async def test_wait_ends_when_the_task_becomes_final(service: Service, waiting: asyncio.Event) -> None:
    api = await service.api()
    other = await service.api()
    task_id = (await api.submit("echo"))["id"]
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        waits = [group.create_task(api.get(task_id, wait=60)) for _ in range(3)]
        await waiting.wait()
        # Another process records the outcome.
        assert (await other.call("POST", f"/v1/tasks/{task_id}/complete", {"result": {"receipt": 17}}))[0] == 200
    assert [(wait.result()["status"], wait.result()["result"]) for wait in waits] == [
        ("succeeded", {"receipt": 17})
    ] * 3


async def test_wait_ends_at_once_when_the_task_is_final(service: Service, waiting: asyncio.Event) -> None:
    api = await service.api()
    task_id = await submit_in(service, api, "failed")
    assert (await api.get(task_id, wait=60))["status"] == "failed"
    assert not waiting.is_set()


async def test_wait_ends_with_the_task_as_it_is_when_the_seconds_are_over(service: Service) -> None:
    api = await service.api()
    task_id = (await api.submit("echo"))["id"]
    started = asyncio.get_running_loop().time()
    assert (await api.get(task_id, wait=0.3))["status"] == "queued"
    assert 0.29 <= asyncio.get_running_loop().time() - started < 5


async def test_wait_is_let_go_when_the_api_stops(service: Service, waiting: asyncio.Event) -> None:
    api = await service.api()
    task_id = (await api.submit("echo"))["id"]
    port, stopping = free_port(), asyncio.Event()
    serving = asyncio.create_task(serve(service.settings.model_copy(update={"api_port": port}), stopping))
    url = f"http://127.0.0.1:{port}"
    async with asyncio.timeout(20), aiohttp.ClientSession() as session:
        await until_up(session, url)
        asked = asyncio.create_task(Api(url, session).get(task_id, wait=60))
        await waiting.wait()
        stopping.set()
        assert (await asked)["status"] == "queued"
        await serving


async def until_up(session: aiohttp.ClientSession, url: str) -> None:
    while True:
        try:
            async with session.get(f"{url}/healthz") as response:
                assert response.status == 204
                return
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("seconds", ["-1", "60.5", "nan", "inf", "x", "", "1e400"])
async def test_wait_is_refused_when_its_seconds_are_out_of_bounds(service: Service, seconds: str) -> None:
    api = await service.api()
    task_id = (await api.submit("echo"))["id"]
    problem = await api.refusal("GET", f"/v1/tasks/{task_id}?wait={seconds}")
    assert problem["status"] == 422
    assert [error["pointer"] for error in problem["errors"]] == ["wait"]


@pytest.mark.parametrize("state", STATES)
async def test_cancel_ends_the_task_when_it_waits(service: Service, state: str) -> None:
    api = await service.api()
    task_id = await submit_in(service, api, state)
    before = await api.get(task_id)
    if state in ("scheduled", "queued", "retrying"):
        status, task = await api.call("POST", f"/v1/tasks/{task_id}/cancel", {"reason": "no longer wanted"})
        assert (status, task["status"], task["due_at"], task["cancelling"]) == (200, "cancelled", None, False)
        assert task["error"] == {"type": "Cancelled", "message": "no longer wanted", "traceback": None}
        assert (task["cancel_reason"], task["finished_at"] is not None) == ("no longer wanted", True)
    elif state == "running":
        status, task = await api.call("POST", f"/v1/tasks/{task_id}/cancel", {"reason": "no longer wanted"})
        assert (status, task) == (202, before | {"cancelling": True, "cancel_reason": "no longer wanted"})
        # Nobody runs it here. A second cancel changes nothing, and waits no longer than it may.
        again = await api.call("POST", f"/v1/tasks/{task_id}/cancel?wait=0.1", {"reason": "another"})
        assert again == (202, task)
    elif state == "cancelled":
        assert await api.call("POST", f"/v1/tasks/{task_id}/cancel") == (200, before)
    else:
        problem = await api.refusal("POST", f"/v1/tasks/{task_id}/cancel")
        assert (problem["status"], problem["code"]) == (409, "wrong-state")
        assert "only a task that is scheduled, queued, retrying or running can be cancelled" in problem["detail"]
        assert await api.get(task_id) == before
    assert await outbox(service) == []


async def test_cancel_is_refused_when_its_request_does_not_fit(service: Service) -> None:
    api = await service.api()
    task_id = await submit_in(service, api, "running")
    before = await api.get(task_id)
    bodies: list[tuple[Any, str]] = [
        ({"reason": "x" * 501}, "#/reason"),
        ({"reason": 7}, "#/reason"),
        ({"reason": "\x00"}, "#/reason"),
        ({"why": "x"}, "#/why"),
        ([], "#"),
    ]
    for body, pointer in bodies:
        problem = await api.refusal("POST", f"/v1/tasks/{task_id}/cancel", body)
        assert (problem["status"], problem["errors"][0]["pointer"]) == (422, pointer), body
    assert (await api.refusal("POST", f"/v1/tasks/{task_id}/cancel?wait=61"))["errors"][0]["pointer"] == "wait"
    assert (await api.refusal("POST", f"/v1/tasks/{uuid4()}/cancel"))["code"] == "task-not-found"
    assert await api.get(task_id) == before


async def test_cancelling_task_is_completed_by_hand_and_runs_again_unmarked(service: Service) -> None:
    api = await service.api()
    task_id = await submit_in(service, api, "running")
    assert (await api.call("POST", f"/v1/tasks/{task_id}/cancel", {"reason": "too slow"}))[0] == 202
    status, task = await api.call("POST", f"/v1/tasks/{task_id}/complete", {"result": 1})
    assert (status, task["status"], task["cancelling"], task["cancel_reason"]) == (200, "succeeded", False, None)
    status, task = await api.call("POST", f"/v1/tasks/{task_id}/retry")
    assert (status, task["status"], task["cancelling"]) == (200, "queued", False)


async def test_retry_drops_a_deadline_that_has_passed(service: Service) -> None:
    api = await service.api()
    for moment, kept in (("now() - interval '1 second'", False), ("now() + interval '1 hour'", True)):
        task_id = await submit_in(service, api, "expired")
        await service.query(f"UPDATE aftercommit.tasks SET expires_at = {moment} WHERE id = '{task_id}'")
        status, task = await api.call("POST", f"/v1/tasks/{task_id}/retry")
        assert (status, task["expires_at"] is not None) == (200, kept)


@pytest.mark.parametrize("state", STATES)
async def test_a_task_that_waits_for_its_time_is_run_now(service: Service, state: str) -> None:
    api = await service.api()
    task_id = await submit_in(service, api, state)
    before = await api.get(task_id)
    if state in ("scheduled", "retrying"):
        status, task = await api.call("POST", f"/v1/tasks/{task_id}/run-now")
        assert (status, task["dispatch"], task["due_at"]) == (200, before["dispatch"] + 1, None)
        assert task["status"] == ("queued" if state == "scheduled" else "retrying")
        assert await outbox(service) == [("tasks.high", "tasks.high", before["dispatch"] + 1, None)]
    else:
        problem = await api.refusal("POST", f"/v1/tasks/{task_id}/run-now")
        assert (problem["status"], problem["code"]) == (409, "wrong-state")
        assert "only a task that is scheduled or retrying can be run now" in problem["detail"]
        assert await api.get(task_id) == before
        assert await outbox(service) == []


@pytest.mark.parametrize("state", STATES)
async def test_a_scheduled_task_gets_another_time(service: Service, state: str) -> None:
    api = await service.api()
    task_id = await submit_in(service, api, state)
    before = await api.get(task_id)
    body = {"run_at": "2031-02-28T23:30:00+01:00"}
    if state == "scheduled":
        status, task = await api.call("POST", f"/v1/tasks/{task_id}/reschedule", body)
        assert (status, task) == (200, before | {"due_at": "2031-02-28T22:30:00Z"})
    else:
        problem = await api.refusal("POST", f"/v1/tasks/{task_id}/reschedule", body)
        assert (problem["status"], problem["code"]) == (409, "wrong-state")
        assert f"is {state}; only a task that is scheduled can be rescheduled" in problem["detail"]
        assert await api.get(task_id) == before
    assert await outbox(service) == []


async def test_rescheduling_is_refused_when_its_body_does_not_fit(service: Service) -> None:
    api = await service.api()
    task_id = await submit_in(service, api, "scheduled")
    bodies: list[tuple[Any, str]] = [
        ({}, "#"),
        ({"run_at": None}, "#"),
        ({"run_at": "2031-01-01T00:00:00Z", "delay_seconds": 1}, "#/delay_seconds"),
        ({"delay_seconds": -1}, "#/delay_seconds"),
        ({"run_at": 1}, "#/run_at"),
        ({"when": 1}, "#/when"),
    ]
    for body, pointer in bodies:
        problem = await api.refusal("POST", f"/v1/tasks/{task_id}/reschedule", body)
        assert (problem["status"], problem["errors"][0]["pointer"]) == (422, pointer), body
    gone = str(uuid4())
    assert (await api.refusal("POST", f"/v1/tasks/{gone}/reschedule", {"delay_seconds": 1}))["status"] == 404
    assert (await api.refusal("POST", f"/v1/tasks/{gone}/run-now"))["status"] == 404


@pytest.mark.parametrize("state", STATES)
async def test_retry_sends_the_task_out_again_when_it_is_final(service: Service, state: str) -> None:
    api = await service.api()
    task_id = await submit_in(service, api, state)
    before = await api.get(task_id)
    if state in FINAL:
        status, task = await api.call("POST", f"/v1/tasks/{task_id}/retry")
        assert (status, task["status"], task["dispatch"]) == (200, "queued", before["dispatch"] + 1)
        assert (task["result"], task["error"], task["finished_at"]) == (None, None, None)
        assert await outbox(service) == [("tasks.high", "tasks.high", before["dispatch"] + 1, None)]
    else:
        problem = await api.refusal("POST", f"/v1/tasks/{task_id}/retry")
        assert (problem["status"], problem["code"]) == (409, "wrong-state")
        assert await api.get(task_id) == before
        assert await outbox(service) == []


async def test_retry_takes_another_payload_and_the_history_keeps_the_old_one(service: Service) -> None:
    api = await service.api()
    task_id = (await api.submit("echo", payload={"a": 1}))["id"]

    async def fail(attempt: int) -> None:
        await service.query(
            f"UPDATE aftercommit.tasks SET status = 'failed', attempt = {attempt}, finished_at = now(), error = {ERROR}"
        )
        await service.query(
            f"INSERT INTO aftercommit.attempts (task_id, attempt, outcome) SELECT id, {attempt}, 'failed'"
            " FROM aftercommit.tasks"
        )

    async def retry(body: Any) -> Any:
        status, task = await api.call("POST", f"/v1/tasks/{task_id}/retry", body)
        assert (status, task["status"]) == (200, "queued")
        return task["payload"]

    await fail(1)
    assert await retry({"payload": {"a": 2}}) == {"a": 2}
    # Nothing ran with that payload.
    await api.call("POST", f"/v1/tasks/{task_id}/cancel")
    assert await retry({"payload": {"a": 3}}) == {"a": 3}
    await fail(2)
    assert await retry({}) == {"a": 3}
    await fail(3)
    assert await retry({"payload": {}}) == {}
    kept = [(attempt["attempt"], attempt.get("payload")) for attempt in await api.attempts(task_id)]
    assert kept == [(1, {"a": 1}), (2, None), (3, {"a": 3})]


async def test_payload_of_a_task_that_never_ran_is_kept_when_it_is_replaced(service: Service) -> None:
    api = await service.api()
    task_id = (await api.submit("echo", payload={"a": 1}))["id"]
    for payload in ({"a": 2}, {"a": 3}):
        await api.call("POST", f"/v1/tasks/{task_id}/cancel")
        assert (await api.call("POST", f"/v1/tasks/{task_id}/retry", {"payload": payload}))[0] == 200
    [kept] = await api.attempts(task_id)
    assert (kept["attempt"], kept["outcome"], kept["payload"], kept["worker"]) == (0, "cancelled", {"a": 1}, None)


async def test_retry_is_refused_when_its_payload_does_not_fit(service: Service) -> None:
    api = await service.api(api_max_payload_bytes=100)
    task_id = await submit_in(service, api, "failed")
    before = await api.get(task_id)
    bodies: list[tuple[Any, str]] = [
        ({"payload": []}, "#/payload"),
        ({"payload": None}, "#/payload"),
        ({"payload": "x"}, "#/payload"),
        ({"payload": {"a": "x" * 93}}, "#/payload"),
        ({"payload": {"a": "\x00"}}, "#/payload/a"),
        ({"payload": {"\ud800": 1}}, "#/payload"),
        ({"max_retries": 5}, "#/max_retries"),
        ([], "#"),
    ]
    for body, pointer in bodies:
        problem = await api.refusal("POST", f"/v1/tasks/{task_id}/retry", body)
        assert (problem["status"], problem["errors"][0]["pointer"]) == (422, pointer), body
    not_json = await api.refusal("POST", f"/v1/tasks/{task_id}/retry", data=b"payload=1")
    assert not_json["status"] == 415
    assert await api.get(task_id) == before
    status, task = await api.call("POST", f"/v1/tasks/{task_id}/retry", {"payload": {"a": "x" * 92}})
    assert (status, task["payload"]) == (200, {"a": "x" * 92})


@pytest.mark.parametrize("state", STATES)
async def test_completion_records_a_result_when_the_task_is_unfinished(service: Service, state: str) -> None:
    api = await service.api()
    task_id = await submit_in(service, api, state)
    before = await api.get(task_id)
    if state not in FINAL:
        status, task = await api.call("POST", f"/v1/tasks/{task_id}/complete", {"result": [1, "ä"]})
        assert (status, task["status"], task["result"], task["error"]) == (200, "succeeded", [1, "ä"], None)
        assert (task["due_at"], task["attempt"]) == (None, before["attempt"])
    else:
        problem = await api.refusal("POST", f"/v1/tasks/{task_id}/complete", {"result": 1})
        assert (problem["status"], problem["code"]) == (409, "wrong-state")
        assert await api.get(task_id) == before
    assert await outbox(service) == []


async def test_completion_makes_a_dead_letter_when_it_records_an_error(service: Service) -> None:
    api = await service.api()
    task_id = await submit_in(service, api, "running")
    error = {"type": "CardDeclined", "message": "the issuer said no\nand hung up"}
    status, task = await api.call("POST", f"/v1/tasks/{task_id}/complete", {"error": error})
    assert (status, task["status"], task["error"]) == (200, "failed", error | {"traceback": None})
    [(destination, work_queue, dispatch, reason)] = await outbox(service)
    assert (destination, work_queue, dispatch) == ("tasks.dlq", "tasks.high", 1)
    assert reason == "recorded by hand: CardDeclined: the issuer said no\nand hung up"
    [attempt] = await api.attempts(task_id)
    assert (attempt["outcome"], attempt["error"]["type"]) == ("completed", "CardDeclined")


async def test_null_is_a_result_when_it_is_given(service: Service) -> None:
    api = await service.api()
    task_id = await submit_in(service, api, "running")
    status, task = await api.call("POST", f"/v1/tasks/{task_id}/complete", {"result": None})
    assert (status, task["status"], task["result"]) == (200, "succeeded", None)


async def test_completion_is_refused_when_its_body_does_not_fit(service: Service) -> None:
    api = await service.api(api_max_payload_bytes=100)
    task_id = (await api.submit("echo"))["id"]
    good = {"type": "A", "message": "b"}
    bodies: list[tuple[Any, str]] = [
        ({}, "#"),
        ({"result": 1, "error": good}, "#"),
        ({"error": None}, "#/error"),
        ({"error": "no"}, "#/error"),
        ({"error": {"type": "A"}}, "#/error/message"),
        ({"error": good | {"type": ""}}, "#/error/type"),
        ({"error": good | {"traceback": "x"}}, "#/error/traceback"),
        ({"error": good | {"message": "x" * 4_001}}, "#/error/message"),
        ({"error": good | {"message": "\x00"}}, "#/error/message"),
        ({"result": {"a": "\ud800"}}, "#/result/a"),
        ({"result": "x" * 101}, "#/result"),
        ({"outcome": 1}, "#/outcome"),
    ]
    for body, pointer in bodies:
        problem = await api.refusal("POST", f"/v1/tasks/{task_id}/complete", body)
        assert problem["status"] == 422, body
        assert pointer in [error["pointer"] for error in problem["errors"]], body
    assert (await api.get(task_id))["status"] == "queued"


async def test_one_wins_when_a_task_is_completed_and_cancelled_at_once(service: Service) -> None:
    api = await service.api()
    for _ in range(5):
        task_id = (await api.submit("echo"))["id"]
        answers = await asyncio.gather(
            api.call("POST", f"/v1/tasks/{task_id}/cancel"),
            api.call("POST", f"/v1/tasks/{task_id}/complete", {"result": 1}),
        )
        assert sorted(status for status, _ in answers) == [200, 409]


async def test_attempts_keep_a_success_when_the_task_is_sent_out_again(service: Service) -> None:
    api = await service.api()
    task_id = await submit_in(service, api, "succeeded")
    [before] = await api.attempts(task_id)
    assert (before["attempt"], before["outcome"], before["worker"]) == (1, "succeeded", "somebody")
    await api.call("POST", f"/v1/tasks/{task_id}/retry")
    assert await api.attempts(task_id) == [before]
    await service.query(f"UPDATE aftercommit.tasks SET {CLAIMED}")
    first, second = await api.attempts(task_id)
    assert first == before
    assert (second["attempt"], second["outcome"], second["finished_at"]) == (2, "running", None)


async def test_attempts_are_empty_when_the_task_was_never_started(service: Service) -> None:
    api = await service.api()
    for state in ("scheduled", "queued", "cancelled"):
        assert await api.attempts(await submit_in(service, api, state)) == []
