"""Workers, as the API tells of them; and how one is drained."""

import asyncio
from typing import Any

from aftercommit import __version__
from tests.integration.service import Api, Service


async def workers(api: Api) -> list[dict[str, Any]]:
    status, answer = await api.call("GET", "/v1/workers")
    assert status == 200, answer
    return list(answer["workers"])


async def one(api: Api) -> dict[str, Any]:
    """The only worker, as soon as it is there."""
    async with asyncio.timeout(10):
        while not (found := await workers(api)):
            await asyncio.sleep(0.05)
    [worker] = found
    return worker


async def test_worker_tells_of_itself_and_is_gone_when_it_stops(service: Service) -> None:
    api = await service.all_roles("tests.integration.handlers")
    worker = await one(api)
    assert (worker["state"], worker["version"], worker["grants"]) == ("running", __version__, None)
    assert worker["work_queues"] == ["tasks.high", "tasks.medium", "tasks.low"]
    assert worker["handlers"]["echo"]["max_retries"] is not None
    task = await api.submit("test.sleep", payload={"seconds": 1})
    while (await api.get(task["id"]))["status"] != "running":
        await asyncio.sleep(0.02)
    status, detail = await api.call("GET", f"/v1/workers/{worker['name']}")
    assert status == 200
    assert [(each["id"], each["type"]) for each in detail["tasks"]] == [(task["id"], "test.sleep")]


async def test_drained_worker_finishes_and_ends(service: Service) -> None:
    api = await service.api()
    await service.relay()
    await service.maintenance()
    settings = {
        "worker_modules": ("tests.integration.handlers",),
        "worker_lease_renew_seconds": 0.3,
        "worker_shutdown_seconds": 0.5,
    }
    role = await service.worker(**settings)
    worker = await one(api)
    running = await api.submit("test.sleep", payload={"seconds": 3})
    while (await api.get(running["id"]))["status"] != "running":
        await asyncio.sleep(0.02)
    for _ in range(2):
        status, drained = await api.call("POST", f"/v1/workers/{worker['name']}/drain")
        assert (status, drained["state"]) == (202, "draining")
    await asyncio.sleep(1)
    late = await api.submit("echo")
    async with asyncio.timeout(10):
        while await workers(api):
            await asyncio.sleep(0.1)
    await role.stop()
    found = await api.get(running["id"])
    assert (found["status"], found["attempt"]) == ("succeeded", 1)
    assert (await api.get(late["id"]))["status"] == "queued"
    await service.worker(**settings)
    assert (await api.get(late["id"], wait=10))["status"] == "succeeded"


async def test_lost_and_unknown_workers_are_told_apart(service: Service) -> None:
    api = await service.api()
    await service.query("INSERT INTO aftercommit.workers (name, handlers, lease_until) VALUES ('old', '{}', now())")
    [worker] = await workers(api)
    assert (worker["name"], worker["state"], worker["host"], worker["slots"]) == ("old", "lost", None, None)
    assert (await api.refusal("POST", "/v1/workers/old/drain"))["code"] == "worker-lost"
    for method, path in (("GET", "nobody"), ("POST", "nobody/drain"), ("GET", "a%00b"), ("POST", "%ff%00/drain")):
        problem = await api.refusal(method, f"/v1/workers/{path}")
        assert (problem["status"], problem["code"]) == (404, "worker-not-found")


async def test_workers_are_listed_in_pages(service: Service) -> None:
    api = await service.api()
    await service.query(
        "INSERT INTO aftercommit.workers (name, handlers, lease_until)"
        " SELECT 'w' || n, '{}', now() + interval '1 hour' FROM generate_series(1, 5) AS n"
    )
    seen, cursor = [], ""
    while True:
        _, page = await api.call("GET", f"/v1/workers?limit=2{cursor}")
        seen += [each["name"] for each in page["workers"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == ["w1", "w2", "w3", "w4", "w5"]
