"""Queues that are made, changed, paused, purged and deleted while everything runs."""

import asyncio
import time
from typing import Any

import pytest

from aftercommit.core.queues import WorkQueuePattern
from tests.integration.service import Api, Service

ANY = ((WorkQueuePattern.parse("*"), None),)


async def put(api: Api, name: str, **options: Any) -> dict[str, Any]:
    status, queue = await api.call("PUT", f"/v1/queues/{name}", options)
    assert status in (200, 201), queue
    return dict(queue)


async def running(service: Service, *modules: str, **worker: Any) -> Api:
    """An API, a relay, maintenance and a worker for every queue."""
    api = await service.api()
    await service.relay()
    await service.maintenance()
    await service.worker(worker_modules=modules, worker_queues=ANY, **worker)
    return api


async def until_gone(api: Api, name: str, *, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while (await api.call("GET", f"/v1/queues/{name}"))[0] != 404:
            await asyncio.sleep(0.1)


async def test_new_queue_is_served_within_a_second(service: Service) -> None:
    api = await running(service)
    await api.get((await api.submit("echo"))["id"], wait=10)
    took = []
    for number in range(5):
        began = time.monotonic()
        queue = await put(api, f"new-{number}", description="of now")
        task = await api.get((await api.submit("echo", queue=f"new-{number}"))["id"], wait=10)
        took.append(time.monotonic() - began)
        assert (queue["description"], queue["is_default"], task["status"]) == ("of now", False, "succeeded")
    assert sorted(took)[2] < 1.0
    status, found = await api.call("GET", "/v1/queues/new-0")
    assert status == 200
    assert [each["name"] for each in found["work_queues"]] == ["new-0.high", "new-0.medium", "new-0.low"]


async def test_put_says_everything_and_repeats(service: Service) -> None:
    api = await service.api()
    wanted = {
        "description": "mail",
        "priorities": ["high", "low"],
        "types": ["email.send"],
        "max_waiting": 10,
        "max_payload_bytes": 1_000,
        "max_retries": 7,
        "retry": {"delays_seconds": [1.0, 2.0]},
        "timeout_seconds": 9.0,
        "ordering": "weighted",
        "weights": {"high": 5, "medium": 2, "low": 1},
        "max_running": 4,
        "rate_per_second": 0.5,
        "burst": 3,
    }
    status, queue = await api.call("PUT", "/v1/queues/emails", wanted)
    assert status == 201
    assert {name: queue[name] for name in wanted} == wanted | {"retry": {"delays_seconds": [1.0, 2.0], "backoff": None}}
    status, again = await api.call("PUT", "/v1/queues/emails", {})
    assert status == 200
    assert {again[name] for name in wanted if name != "ordering"} == {None}
    assert again["ordering"] == "strict"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"max_running": 0}, "#/max_running"),
        ({"rate_per_second": 0}, "#/rate_per_second"),
        ({"priorities": []}, "#/priorities"),
        ({"priorities": ["urgent"]}, "#/priorities/0"),
        ({"types": ["not a type"]}, "#/types/0"),
        ({"weights": {"high": 1}}, "#"),
        ({"burst": 5}, "#"),
        ({"ordering": "lifo"}, "#/ordering"),
        ({"colour": "red"}, "#/colour"),
        ({"retry": {}}, "#/retry"),
        ({"description": 5}, "#/description"),
    ],
)
async def test_bad_option_is_named(service: Service, body: dict[str, Any], pointer: str) -> None:
    api = await service.api()
    problem = await api.refusal("PUT", "/v1/queues/emails", body)
    assert [each["pointer"] for each in problem["errors"]] == [pointer]


async def test_unknown_queue_is_told_with_the_known_ones(service: Service) -> None:
    api = await service.api(queues=("tasks", "emails"))
    problem = await api.refusal("POST", "/v1/tasks", {"type": "echo", "queue": "nowhere"})
    assert problem["errors"] == [
        {"pointer": "#/queue", "detail": "there is no queue 'nowhere': there are tasks, emails"}
    ]
    for method, path in (
        ("GET", "nowhere"),
        ("DELETE", "nowhere"),
        ("POST", "nowhere/resume"),
        ("POST", "nowhere/pause"),
        ("GET", "No.queue"),
        ("GET", "a%00b"),
        ("DELETE", "a%00b"),
        ("POST", "a%00b/pause"),
    ):
        problem = await api.refusal(method, f"/v1/queues/{path}")
        assert (problem["status"], problem["code"]) == (404, "queue-not-found")
        assert "There are tasks, emails; PUT /v1/queues/" in problem["detail"]
    assert (await api.refusal("POST", "/v1/queues/nowhere/purge", {}))["code"] == "queue-not-found"


async def test_other_api_process_knows_a_new_queue_at_once(service: Service) -> None:
    one, other = await service.api(), await service.api()
    for number in range(5):
        await put(one, f"new-{number}")
        await other.submit("echo", queue=f"new-{number}")


async def test_queue_takes_only_what_it_allows(service: Service) -> None:
    api = await service.api()
    await put(api, "emails", priorities=["high"], types=["email.send"], max_payload_bytes=20)
    problem = await api.refusal("POST", "/v1/tasks", {"type": "echo", "queue": "emails", "payload": {"text": "x" * 20}})
    assert problem["errors"] == [
        {"pointer": "#/priority", "detail": "emails takes no medium tasks: high only"},
        {"pointer": "#/type", "detail": "emails does not take 'echo': it takes email.send"},
        {"pointer": "#/payload", "detail": "has 31 bytes; max_payload_bytes of emails allows 20"},
    ]
    await api.submit("email.send", queue="emails", priority="high")


async def test_queue_gives_its_defaults_to_tasks_that_say_nothing(service: Service) -> None:
    api = await service.api()
    await put(api, "emails", max_retries=9, timeout_seconds=7, retry={"delays_seconds": [4]})
    task = await api.submit("echo", queue="emails")
    own = await api.submit("echo", queue="emails", max_retries=1, timeout_seconds=2)
    assert (task["max_retries"], task["timeout_seconds"]) == (9, 7)
    assert (own["max_retries"], own["timeout_seconds"]) == (1, 2)
    ((retry,),) = await service.query(f"SELECT retry FROM aftercommit.tasks WHERE id = '{task['id']}'")
    assert retry == {"delays_seconds": [4.0]}


async def test_full_queue_refuses_and_takes_again(service: Service) -> None:
    api = await service.api()
    await put(api, "small", max_waiting=5)
    await asyncio.sleep(0.3)
    await api.submit_batch([{"type": "echo", "queue": "small"}] * 3)
    answer = await api.ask("POST", "/v1/tasks/batch", {"tasks": [{"type": "echo", "queue": "small"}] * 3})
    assert (answer.status, answer.body["code"], answer.headers["Retry-After"]) == (429, "queue-full", "5")
    assert "small has 3 unfinished tasks, and its max_waiting is 5: 3 more do not fit." in answer.body["detail"]
    await api.submit_batch([{"type": "echo", "queue": "small"}] * 2)
    await api.submit("echo")
    await service.query("UPDATE aftercommit.tasks SET status = 'succeeded', finished_at = now() WHERE queue = 'small'")
    async with asyncio.timeout(5):
        while (await api.ask("POST", "/v1/tasks", {"type": "echo", "queue": "small"})).status == 429:
            await asyncio.sleep(0.1)


async def test_paused_queue_starts_nothing_and_survives_restarts(service: Service) -> None:
    api = await running(service)
    await api.get((await api.submit("echo"))["id"], wait=10)
    status, queue = await api.call("POST", "/v1/queues/tasks/pause", {"by": "Ada: the provider is down"})
    assert (status, queue["paused"]["by"]) == (200, "Ada: the provider is down")
    await asyncio.sleep(1)
    tasks = await api.submit_batch([{"type": "echo"}] * 20)
    await put(api, "other")
    assert (await api.get((await api.submit("echo", queue="other"))["id"], wait=10))["status"] == "succeeded"
    late = await service.worker(worker_queues=ANY)
    await asyncio.sleep(1)
    assert {(await api.get(task["id"]))["status"] for task in tasks} == {"queued"}
    await late.stop()
    queue = (await api.call("POST", "/v1/queues/tasks/resume"))[1]
    assert queue["paused"] is None
    for task in tasks:
        assert (await api.get(task["id"], wait=10))["status"] == "succeeded"


async def test_queue_with_unfinished_tasks_is_not_deleted_unasked(service: Service) -> None:
    api = await service.api()
    await put(api, "emails")
    await api.submit("echo", queue="emails")
    problem = await api.refusal("DELETE", "/v1/queues/emails")
    assert (problem["code"], problem["status"]) == ("queue-in-use", 409)
    assert "emails has 1 unfinished tasks" in problem["detail"]
    problem = await api.refusal("DELETE", "/v1/queues/tasks")
    assert "it is the first of QUEUES" in problem["detail"]
    for target, code in (("emails", "queue-in-use"), ("nowhere", "queue-not-found")):
        assert (await api.refusal("DELETE", f"/v1/queues/emails?move_to={target}"))["code"] == code
    assert (await api.refusal("DELETE", "/v1/queues/emails?move_to=tasks&cancel=true"))["code"] == "invalid-request"


async def test_deleted_queue_moves_its_tasks(service: Service) -> None:
    api = await service.api()
    await service.relay()
    await service.maintenance()
    await put(api, "old")
    waiting = await api.submit_batch([{"type": "echo", "queue": "old"}] * 700)
    later = await api.submit("echo", queue="old", delay_seconds=1)
    status, queue = await api.call("DELETE", "/v1/queues/old?move_to=tasks")
    assert (status, queue["deleting"]["mode"], queue["deleting"]["move_to"]) == (202, "move", "tasks")
    problem = await api.refusal("POST", "/v1/tasks", {"type": "echo", "queue": "old"})
    assert "'old' is being deleted: there is tasks" in problem["detail"]
    assert (await api.refusal("PUT", "/v1/queues/old", {}))["code"] == "queue-in-use"
    await until_gone(api, "old")
    await service.worker(worker_queues=ANY)
    for task in (waiting[0], waiting[-1], later):
        found = await api.get(task["id"], wait=20)
        assert (found["queue"], found["status"]) == ("tasks", "succeeded")
    async with asyncio.timeout(20):
        while (await service.query("SELECT count(*) FROM aftercommit.tasks WHERE finished_at IS NULL"))[0][0]:
            await asyncio.sleep(0.1)
    assert await service.query("SELECT count(*) FROM aftercommit.attempts") == [(0,)]


async def test_deleted_queue_cancels_its_tasks_and_may_be_made_again(service: Service) -> None:
    api = await running(service, "tests.integration.handlers")
    await put(api, "old")
    await api.call("POST", "/v1/queues/old/pause")
    tasks = await api.submit_batch([{"type": "echo", "queue": "old"}] * 10)
    await api.call("DELETE", "/v1/queues/old?cancel=true")
    await until_gone(api, "old")
    assert {(await api.get(task["id"]))["status"] for task in tasks} == {"cancelled"}
    queue = await put(api, "old")
    assert queue["paused"] is None
    assert (await api.get((await api.submit("echo", queue="old"))["id"], wait=10))["status"] == "succeeded"


async def test_task_that_comes_to_a_deleted_queue_revives_it(service: Service) -> None:
    api = await running(service)
    await put(api, "old")
    await api.call("DELETE", "/v1/queues/old")
    await until_gone(api, "old")
    await service.query(
        "WITH made AS (INSERT INTO aftercommit.tasks (id, type, queue, priority, status, payload)"
        " VALUES (gen_random_uuid(), 'echo', 'old', 'high', 'queued', '{}') RETURNING id)"
        " INSERT INTO aftercommit.outbox_rows (work_queue, task_ids, dispatches)"
        " SELECT 'old.high', ARRAY[id], '{1}' FROM made"
    )
    async with asyncio.timeout(60):
        while (await service.query("SELECT count(*) FROM aftercommit.tasks WHERE status = 'succeeded'"))[0][0] < 1:
            await asyncio.sleep(0.2)
    assert (await api.call("GET", "/v1/queues/old"))[0] == 200


async def test_purge_cancels_what_waits_and_fits(service: Service) -> None:
    api = await service.api()
    await service.maintenance()
    await api.submit_batch([{"type": "a"}] * 600 + [{"type": "b"}] * 3 + [{"type": "a", "priority": "high"}] * 2)
    later = await api.submit("a", delay_seconds=100)
    status, dry = await api.call("POST", "/v1/queues/tasks/purge", {"type": "a", "dry_run": True})
    assert (status, dry["matching"], dry["id"]) == (202, 602, None)
    _, none = await api.call("POST", "/v1/queues/tasks/purge", {"older_than_seconds": 60, "dry_run": True})
    assert none["matching"] == 0
    _, purge = await api.call("POST", "/v1/queues/tasks/purge", {"type": "a", "priority": "medium"})
    async with asyncio.timeout(10):
        while (found := (await api.call("GET", f"/v1/queues/tasks/purges/{purge['id']}"))[1])["ended_at"] is None:
            await asyncio.sleep(0.1)
    assert found["cancelled"] == 600
    left = await service.query("SELECT type, priority, status FROM aftercommit.tasks WHERE finished_at IS NULL")
    assert sorted(map(tuple, left)) == [
        ("a", "high", "queued"),
        ("a", "high", "queued"),
        ("a", "medium", "scheduled"),
        *[("b", "medium", "queued")] * 3,
    ]
    assert (await api.get(later["id"]))["status"] == "scheduled"
    problem = await api.refusal("GET", f"/v1/queues/tasks/purges/{later['id']}")
    assert problem["code"] == "purge-not-found"
