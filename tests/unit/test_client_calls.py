"""The client's calls: there is one for each operation of the API, what they send, what they make of answers."""

import inspect
import json
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final
from uuid import UUID

import httpx
import pytest

from aftercommit import AsyncClient, Client, InvalidPayload, TaskRequest
from aftercommit.client import errors, queue_calls, schedule_calls, service_calls, task_calls
from aftercommit.client.call import Call, Page
from aftercommit.client.errors import BY_CODE, ApiError, FieldError, UnexpectedAnswer
from aftercommit.core.errors import AftercommitError, BrokerUnavailable, MalformedMessage
from aftercommit.core.settings import Settings
from aftercommit.server.api.app import create_app

TASK_ID: Final = "0199a3c5-7e4b-7c11-9a55-0d9f4c5be7aa"
NOW: Final = datetime(2026, 6, 1, 5, tzinfo=UTC)
TASK: Final[dict[str, Any]] = {
    "id": TASK_ID,
    "type": "email.send",
    "queue": "tasks",
    "priority": "medium",
    "status": "queued",
    "payload": {"to": "ada@example.com"},
    "tags": ["mail"],
    "max_retries": None,
    "timeout_seconds": None,
    "retry": None,
    "result_ttl_seconds": None,
    "dispatch": 1,
    "attempt": 0,
    "worker": None,
    "result": None,
    "error": None,
    "created_at": "2026-06-01T05:00:00Z",
    "queued_at": "2026-06-01T05:00:00Z",
    "due_at": None,
    "expires_at": None,
    "cancelling": False,
    "cancel_reason": None,
    "first_started_at": None,
    "started_at": None,
    "finished_at": None,
    "result_expires_at": None,
    "progress": None,
    "unique": None,
    "schedule": None,
}
ARGUMENTS: Final[dict[str, Any]] = {
    "task": TASK_ID,
    "tasks": [TaskRequest("echo")],
    "name": "daily",
    "type": "CardDeclined",
    "message": "no",
    "since": NOW,
    "before": NOW,
    "purge_id": TASK_ID,
}
"""What the required parameters of calls are given."""


def builders() -> Iterator[Callable[..., Call[Any]]]:
    for module in (task_calls, schedule_calls, queue_calls, service_calls):
        for name, function in vars(module).items():
            if not inspect.isfunction(function) or function.__module__ != module.__name__ or name.startswith("_"):
                continue
            if name != "batch" and getattr(function.__annotations__["return"], "__origin__", None) is Call:
                yield function


def built(build: Callable[..., Call[Any]]) -> Call[Any]:
    """A call with the required arguments."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for name, parameter in inspect.signature(build).parameters.items():
        if parameter.default is not parameter.empty or parameter.kind is parameter.VAR_KEYWORD:
            continue
        value = TaskRequest("echo") if name == "task" and parameter.annotation is TaskRequest else ARGUMENTS[name]
        if parameter.kind is parameter.KEYWORD_ONLY:
            kwargs[name] = value
        else:
            args.append(value)
    return build(*args, **kwargs)


def answer(status: int, body: object, **headers: str) -> httpx.Response:
    content = body if isinstance(body, str) else json.dumps(body)
    return httpx.Response(status, content=content.encode(), headers=headers)


def problem(code: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"urn:aftercommit:{code}", "title": "No", "status": 409, "detail": "so not", "code": code, **fields}


def refusal(reply: httpx.Response, call: Call[Any] | None = None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        (call or task_calls.get_task(TASK_ID)).result(reply)
    return caught.value


def test_every_operation_of_the_api_has_a_method_of_both_clients() -> None:
    calls = {build.__name__: built(build) for build in builders()}
    for client in (Client, AsyncClient):
        assert {name for name in calls if hasattr(client, name)} == set(calls)
    document = create_app(Settings(_env_file=None)).openapi()
    operations = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert {(call.method, call.path) for call in calls.values()} == operations


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    ours = {name: method for name, method in vars(Client).items() if not name.startswith("_")}
    theirs = {name: method for name, method in vars(AsyncClient).items() if not name.startswith("_")}
    assert set(ours) - {"close"} == set(theirs) - {"aclose"}
    for name in set(ours) - {"close"}:
        assert list(inspect.signature(ours[name]).parameters) == list(inspect.signature(theirs[name]).parameters), name
        assert ours[name].__doc__, name


def test_method_shows_the_parameters_of_its_call() -> None:
    assert list(inspect.signature(Client.cancel_task).parameters) == ["self", "task", "reason", "wait_seconds"]
    assert Client.cancel_task.__name__ == "cancel_task"
    assert (Client.cancel_task.__doc__ or "").startswith("Cancel a task.")


def test_submit_sends_type_payload_options_and_a_key_of_its_own() -> None:
    call = task_calls.submit("email.send", {"to": "ü"}, priority="high", delay_seconds=60)
    assert json.loads(call.body or b"") == {
        "type": "email.send",
        "payload": {"to": "ü"},
        "priority": "high",
        "delay_seconds": 60,
    }
    assert UUID(call.idempotency_key).version == 4
    assert call.headers == {"Content-Type": "application/json", "Idempotency-Key": call.idempotency_key}
    assert call.idempotency_key != task_calls.submit("email.send").idempotency_key


def test_key_that_is_given_is_sent() -> None:
    assert task_calls.submit("echo", idempotency_key="order-17").idempotency_key == "order-17"
    for bad in ("", "a b", "ä", "a" * 201):
        with pytest.raises(ValueError, match="idempotency_key is"):
            task_calls.submit("echo", idempotency_key=bad)


def test_options_of_the_call_go_before_those_of_the_request() -> None:
    request = TaskRequest("echo", {"a": 1}, {"priority": "low", "queue": "emails"})
    assert json.loads(task_calls.submit(request, priority="high").body or b"") == {
        "type": "echo",
        "payload": {"a": 1},
        "priority": "high",
        "queue": "emails",
    }
    assert request.options == {"priority": "low", "queue": "emails"}


def test_request_with_a_second_payload_is_refused() -> None:
    with pytest.raises(TypeError, match="has a payload already"):
        task_calls.submit(TaskRequest("echo"), {})


@pytest.mark.parametrize("payload", [{"a": {1}}, {"a": float("nan")}, {"a": "\ud800"}, {"a": b""}])
def test_payload_that_is_not_json_is_refused_before_anything_is_sent(payload: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayload, match="echo is not JSON"):
        task_calls.submit("echo", payload)


def test_path_takes_ids_names_and_tasks_and_nothing_else() -> None:
    task = task_calls.get_task(TASK_ID).result(answer(200, TASK))
    for given in (TASK_ID, UUID(TASK_ID), task):
        assert task_calls.get_task(given).filled_path == f"/v1/tasks/{TASK_ID}"
    with pytest.raises(ValueError, match="badly formed"):
        task_calls.get_task("../queues")
    assert schedule_calls.get_schedule("../a b").filled_path == "/v1/schedules/..%2Fa%20b"


def test_listing_sends_only_the_filters_that_are_given() -> None:
    call = task_calls.list_tasks(status="failed", created_from=NOW, include=("payload", "error"), page_size=7)
    assert call.query == {
        "status": "failed",
        "created_from": "2026-06-01T05:00:00+00:00",
        "include": "payload,error",
        "limit": "7",
    }
    with pytest.raises(ValueError, match="created_before is"):
        task_calls.list_tasks(created_before=datetime(2026, 1, 1))  # noqa: DTZ001  # what the test is about


def test_page_knows_the_next_one() -> None:
    call = task_calls.list_tasks(status="queued")
    page: Page[Any] = call.result(answer(200, {"tasks": [TASK], "next_cursor": "abc"}))
    assert [str(task.id) for task in page.items] == [TASK_ID]
    assert page.following is not None
    assert page.following.query == {"status": "queued", "limit": "100", "cursor": "abc"}
    assert page.following.result(answer(200, {"tasks": [], "next_cursor": None})).following is None


def test_parked_rows_are_paged_by_their_ids() -> None:
    row = {
        "id": 17,
        "destination": "tasks.high",
        "work_queue": "tasks.high",
        "task_ids": [TASK_ID],
        "attempts": 10,
        "last_error": "no queue takes it",
        "created_at": "2026-06-01T05:00:00Z",
        "failed_at": "2026-06-01T05:00:00Z",
    }
    outbox = {"unpublished": 0, "oldest_age_seconds": None, "failed": 1}
    call = service_calls.list_parked_rows(page_size=1)
    full = call.result(answer(200, {**outbox, "failed_rows": [row]}))
    assert full.following is not None
    assert full.following.query == {"limit": "1", "after": "17"}
    assert full.following.result(answer(200, {**outbox, "failed_rows": []})).following is None


def test_result_is_typed_and_frozen_and_ignores_what_it_does_not_know() -> None:
    told = {**TASK, "status": "dreaming", "new_field": {"a": 1}, "progress": None}
    task = task_calls.get_task(TASK_ID).result(answer(200, told))
    assert (task.id, task.created_at, task.tags, task.status) == (UUID(TASK_ID), NOW, ("mail",), "dreaming")
    assert not task.is_final
    with pytest.raises(ValueError, match="frozen"):
        task.status = "queued"  # type: ignore[misc]  # what the test is about


def test_readiness_is_a_result_even_when_the_service_is_not_ready() -> None:
    told = {"status": "not ready", "postgres": "down", "migrations": "up", "broker": "up"}
    assert service_calls.get_readiness().result(answer(503, told)).status == "not ready"


def test_every_problem_of_the_api_has_an_exception() -> None:
    told: list[type[AftercommitError]] = [AftercommitError, *AftercommitError.__subclasses__()]
    assert {kind.code for kind in told if kind not in (BrokerUnavailable, MalformedMessage)} <= set(BY_CODE)
    for code, kind in BY_CODE.items():
        error = refusal(answer(409, problem(code, errors=[{"pointer": "#/unique", "detail": "is held"}])))
        assert (type(error), error.code, error.status, error.detail) == (kind, code, 409, "so not")
        assert error.errors == (FieldError("#/unique", "is held"),)
        assert str(error) == f"{code}: so not"


def test_code_that_is_new_is_an_api_error_with_that_code() -> None:
    error = refusal(answer(418, problem("short-and-stout")))
    assert (type(error), error.code, error.status) == (ApiError, "short-and-stout", 418)


def test_answer_that_is_none_of_the_api_is_quoted() -> None:
    error = refusal(answer(502, "<h1>Bad gateway</h1>" + "x" * 500))
    assert (type(error), error.code, error.status) == (ApiError, "http-error", 502)
    assert "<h1>Bad gateway</h1>" in error.detail
    assert len(error.detail) < 300
    unexpected = refusal(answer(200, "<h1>Welcome</h1>"))
    assert isinstance(unexpected, UnexpectedAnswer)
    assert "Welcome" in unexpected.detail


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("soon", None),
        ("-1", None),
        ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),
    ],
)
def test_retry_after_is_read_in_seconds(header: str, seconds: float | None) -> None:
    assert refusal(answer(503, problem("overloaded"), **{"Retry-After": header})).retry_after_seconds == seconds


def test_retry_after_is_read_as_a_date() -> None:
    for moment, least, most in ((timedelta(seconds=60), 50, 60), (timedelta(seconds=-60), 0, 0)):
        header = format_datetime(datetime.now(UTC) + moment, usegmt=True)
        found = refusal(answer(503, problem("overloaded"), **{"Retry-After": header})).retry_after_seconds
        assert found is not None
        assert least <= found <= most


def test_errors_can_be_pickled() -> None:
    error = refusal(answer(409, problem("wrong-state")))
    again: ApiError = pickle.loads(pickle.dumps(error))
    assert (type(again), again.code, again.status, again.detail) == (errors.WrongState, "wrong-state", 409, "so not")
