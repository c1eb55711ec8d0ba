"""``Idempotency-Key``: one request, however often it is sent."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aftercommit.db import idempotency
from aftercommit.db.database import Database
from aftercommit.server.api import submit_routes
from aftercommit.server.maintenance.idempotency_key_pruner import IdempotencyKeyPruner
from aftercommit.server.submission.task_input import TaskIn
from tests.integration.service import Answer, Api, Service

EXPIRE = "UPDATE aftercommit.idempotency_keys SET created_at = now() - interval '24 hours 1 second' RETURNING key"


async def submit(api: Api, key: str, type: str = "echo", **fields: Any) -> Answer:
    return await api.ask("POST", "/v1/tasks", {"type": type, **fields}, headers={"Idempotency-Key": key})


def replayed(first: Answer) -> list[dict[str, Any]]:
    """The tasks of an answer as a replay shows them."""
    return [task | {"submission": "replayed"} for task in first.body.get("tasks", [first.body])]


async def count(service: Service) -> tuple[int, int]:
    [row] = await service.query(
        "SELECT (SELECT count(*) FROM aftercommit.tasks),"
        " (SELECT coalesce(sum(cardinality(task_ids)), 0) FROM aftercommit.outbox_rows)"
    )
    return row[0], row[1]


async def test_first_task_comes_back_when_key_and_body_are_the_same(service: Service) -> None:
    api = await service.api()
    first = await submit(api, "k1", payload={"a": 1, "b": 2})
    again = await submit(api, "k1", payload={"b": 2, "a": 1})
    assert (first.status, again.status) == (201, 201)
    assert (first.body["submission"], [again.body]) == ("created", replayed(first))
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert await count(service) == (1, 1)


async def test_replay_shows_the_task_as_it_stands_when_it_moved_on(service: Service) -> None:
    api = await service.api()
    first = await submit(api, "k1")
    await api.call("POST", f"/v1/tasks/{first.body['id']}/cancel")
    assert (await submit(api, "k1")).body["status"] == "cancelled"


async def test_key_is_refused_when_it_came_with_another_request(service: Service) -> None:
    api = await service.api()
    await submit(api, "k1", payload={"a": 1})
    header = {"Idempotency-Key": "k1"}
    others: list[tuple[str, Any]] = [
        ("/v1/tasks", {"type": "echo", "payload": {"a": True}}),
        ("/v1/tasks", {"type": "echo", "payload": {"a": 1}, "priority": "high"}),
        ("/v1/tasks/batch", {"tasks": [{"type": "echo", "payload": {"a": 1}}]}),
    ]
    for path, body in others:
        problem = await api.refusal("POST", path, body, headers=header)
        assert (problem["status"], problem["code"]) == (422, "idempotency-key-reused")
        assert "'k1'" in problem["detail"]
    assert await count(service) == (1, 1)


async def test_replay_comes_when_a_release_added_a_field_meanwhile(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LaterTaskIn(TaskIn):
        unique_for_seconds: int | None = None

    api = await service.api()
    first = await submit(api, "k1", payload={"a": 1})
    monkeypatch.setattr(submit_routes, "TaskIn", LaterTaskIn)
    again = await submit(api, "k1", payload={"a": 1})
    assert (again.status, [again.body]) == (201, replayed(first))
    assert (await submit(api, "k1", payload={"a": 1}, unique_for_seconds=5)).status == 422


async def test_spelling_of_a_request_does_not_matter(service: Service) -> None:
    api = await service.api()
    options = {"headers": {"Idempotency-Key": "k1", "Content-Type": "application/json"}}
    first = await api.ask(
        "POST", "/v1/tasks", data=rb'{"type":"echo","max_retries":5,"payload":{"a":[1,2.5],"b":"\u00e4"}}', **options
    )
    again = await api.ask(
        "POST",
        "/v1/tasks",
        data='{ "payload": {"b": "ä", "a": [1.0, 2.5]}, "max_retries": 5.0, "type": "echo" }',
        **options,
    )
    assert (again.status, again.body["id"]) == (201, first.body["id"])


@pytest.mark.parametrize("deleted", [1, 3])
async def test_replay_says_that_its_tasks_were_deleted(service: Service, deleted: int) -> None:
    api = await service.api()
    header = {"Idempotency-Key": "k1"}
    batch = {"tasks": [{"type": "echo"}] * 3}
    await api.call("POST", "/v1/tasks/batch", batch, headers=header)
    await service.query(
        "DELETE FROM aftercommit.tasks WHERE id IN (SELECT id FROM aftercommit.tasks LIMIT :count)", count=deleted
    )
    problem = await api.refusal("POST", "/v1/tasks/batch", batch, headers=header)
    assert (problem["status"], problem["code"]) == (410, "tasks-deleted")
    assert f"{deleted} of the 3" in problem["detail"]
    assert (await count(service))[0] == 3 - deleted


async def test_replay_of_a_single_task_says_that_it_was_deleted(service: Service) -> None:
    api = await service.api()
    await submit(api, "k1")
    await service.query("DELETE FROM aftercommit.tasks")
    problem = await api.refusal("POST", "/v1/tasks", {"type": "echo"}, headers={"Idempotency-Key": "k1"})
    assert (problem["status"], problem["code"]) == (410, "tasks-deleted")
    assert (await count(service))[0] == 0


async def test_replay_is_bounded_when_its_payloads_are_large(service: Service) -> None:
    api = await service.api(api_max_page_bytes=100_000)
    header = {"Idempotency-Key": "k1"}
    batch = {"tasks": [{"type": "echo", "payload": {"n": n, "text": "x" * 10_000}} for n in range(80)]}
    first = await api.ask("POST", "/v1/tasks/batch", batch, headers=header)
    again = await api.ask("POST", "/v1/tasks/batch", batch, headers=header)
    assert (again.status, again.headers["Idempotency-Replayed"]) == (201, "true")
    tasks = again.body["tasks"]
    assert [task["id"] for task in tasks] == [task["id"] for task in first.body["tasks"]]
    assert tasks[:9] == replayed(first)[:9]
    bulky = {"payload", "result", "error"}
    assert all(not bulky & set(task) for task in tasks[9:])
    assert tasks[79] == {name: value for name, value in replayed(first)[79].items() if name not in bulky}


async def test_key_that_is_pruned_while_it_is_asked_for_is_free(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = await service.api()
    first = await submit(api, "k1")

    async def pruned(*_: Any) -> None:
        monkeypatch.undo()
        await service.query("DELETE FROM aftercommit.idempotency_keys")

    monkeypatch.setattr(idempotency, "get", pruned)
    again = await submit(api, "k1")
    assert (again.status, "Idempotency-Replayed" in again.headers) == (201, False)
    assert again.body["id"] != first.body["id"]


async def test_key_is_free_when_its_request_was_refused(service: Service) -> None:
    api = await service.api()
    assert (await submit(api, "k1", queue="nowhere")).status == 422
    answer = await submit(api, "k1")
    assert (answer.status, "Idempotency-Replayed" in answer.headers) == (201, False)


async def test_replay_comes_when_the_deadline_has_passed(service: Service) -> None:
    api = await service.api()
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    first = await submit(api, "k1", expires_at=soon)
    await service.until("SELECT expires_at <= now() FROM aftercommit.tasks")
    again = await submit(api, "k1", expires_at=soon)
    assert (again.status, again.headers["Idempotency-Replayed"]) == (201, "true")
    assert [again.body] == replayed(first)
    problem = (await submit(api, "k2", expires_at=soon)).body
    assert [error["pointer"] for error in problem["errors"]] == ["#/expires_at"]
    assert (await submit(api, "k1", expires_at=soon, queue="nowhere")).body["code"] == "idempotency-key-reused"
    assert await count(service) == (1, 1)


async def test_batch_comes_back_in_its_order_when_key_and_body_are_the_same(service: Service) -> None:
    api = await service.api()
    body = {"tasks": [{"type": "echo", "payload": {"n": n}} for n in range(50)]}
    header = {"Idempotency-Key": "batch"}
    first = await api.ask("POST", "/v1/tasks/batch", body, headers=header)
    again = await api.ask("POST", "/v1/tasks/batch", body, headers=header)
    assert again.body["tasks"] == replayed(first)
    assert [task["payload"]["n"] for task in again.body["tasks"]] == list(range(50))
    assert again.headers["Idempotency-Replayed"] == "true"
    assert await count(service) == (50, 50)


async def test_one_task_is_created_when_requests_with_one_key_come_at_once(service: Service) -> None:
    apis = [await service.api(), await service.api()]
    answers = await asyncio.gather(*(submit(apis[number % 2], "k1") for number in range(10)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body["id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert await count(service) == (1, 1)


async def test_one_request_wins_when_different_ones_with_one_key_come_at_once(service: Service) -> None:
    api = await service.api()
    answers = await asyncio.gather(*(submit(api, "k1", payload={"n": n}) for n in range(5)))
    assert sorted(answer.status for answer in answers) == [201, 422, 422, 422, 422]
    assert await count(service) == (1, 1)


async def test_key_is_free_again_when_its_day_is_over(service: Service) -> None:
    api = await service.api()
    first = await submit(api, "k1")
    assert len(await service.query(EXPIRE)) == 1
    second = await submit(api, "k1", payload={"other": True})
    assert (second.status, "Idempotency-Replayed" in second.headers) == (201, False)
    assert second.body["id"] != first.body["id"]
    assert (await submit(api, "k1", payload={"other": True})).body["id"] == second.body["id"]
    # The first task is none the worse for it.
    assert (await api.get(first.body["id"]))["status"] == "queued"


async def test_key_is_pruned_when_its_day_is_over(service: Service) -> None:
    api = await service.api()
    for key in ("old", "older"):
        await submit(api, key)
    await service.query(EXPIRE)
    await submit(api, "young")
    database = Database(service.settings, application="test")
    assert await IdempotencyKeyPruner(database, interval_seconds=7).run_once() == 7
    await database.close()
    assert [row[0] for row in await service.query("SELECT key FROM aftercommit.idempotency_keys")] == ["young"]
    assert await count(service) == (3, 3)


@pytest.mark.parametrize("key", ["", "a b", "x" * 201, "käse"])
async def test_key_is_refused_when_it_is_badly_spelt(service: Service, key: str) -> None:
    api = await service.api()
    problem = await api.refusal("POST", "/v1/tasks", {"type": "echo"}, headers={"Idempotency-Key": key})
    assert problem["status"] == 422
    assert [error["pointer"] for error in problem["errors"]] == ["Idempotency-Key"]
