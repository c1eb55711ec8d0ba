"""``Idempotency-Key``: one request, however often it is sent."""

import asyncio
from typing import Any

import pytest

from aftercommit.db.database import Database
from aftercommit.server.maintenance.idempotency_key_pruner import IdempotencyKeyPruner
from tests.integration.service import Answer, Api, Service

EXPIRE = "UPDATE aftercommit.idempotency_keys SET created_at = now() - interval '24 hours 1 second' RETURNING key"


async def submit(api: Api, key: str, type: str = "echo", **fields: Any) -> Answer:
    return await api.ask("POST", "/v1/tasks", {"type": type, **fields}, headers={"Idempotency-Key": key})


async def count(service: Service) -> tuple[int, int]:
    [row] = await service.query(
        "SELECT (SELECT count(*) FROM aftercommit.tasks), (SELECT count(*) FROM aftercommit.outbox)"
    )
    return row[0], row[1]


async def test_first_task_comes_back_when_key_and_body_are_the_same(service: Service) -> None:
    api = await service.api()
    first = await submit(api, "k1", payload={"a": 1, "b": 2})
    again = await submit(api, "k1", payload={"b": 2, "a": 1})
    assert (first.status, again.status) == (201, 201)
    assert again.body == first.body
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


async def test_key_is_free_when_its_request_was_refused(service: Service) -> None:
    api = await service.api()
    assert (await submit(api, "k1", queue="nowhere")).status == 422
    answer = await submit(api, "k1")
    assert (answer.status, "Idempotency-Replayed" in answer.headers) == (201, False)


async def test_batch_comes_back_in_its_order_when_key_and_body_are_the_same(service: Service) -> None:
    api = await service.api()
    body = {"tasks": [{"type": "echo", "payload": {"n": n}} for n in range(50)]}
    header = {"Idempotency-Key": "batch"}
    first = await api.ask("POST", "/v1/tasks/batch", body, headers=header)
    again = await api.ask("POST", "/v1/tasks/batch", body, headers=header)
    assert again.body == first.body
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
