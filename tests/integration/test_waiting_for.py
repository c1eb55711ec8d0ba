"""Every reason for which a task waits, on the real servers."""

import asyncio
from typing import Any

from aftercommit.core.queues import WorkQueuePattern
from aftercommit.devstack.ports import free_port
from tests.integration.service import Api, Service

ANY = ((WorkQueuePattern.parse("*"), None),)


async def reasons(api: Api, task: dict[str, Any]) -> list[dict[str, Any]]:
    return list((await api.call("GET", f"/v1/tasks/{task['id']}"))[1]["waiting_for"] or [])


async def until(api: Api, task: dict[str, Any], *wanted: str, seconds: float = 15) -> list[dict[str, Any]]:
    """Wait until these are the reasons."""
    found: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = await reasons(api, task)
                if [each["reason"] for each in found] == list(wanted):
                    return found
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{found}, not {wanted}") from None


async def test_times_and_the_end(service: Service) -> None:
    api = await service.api()
    later = await api.submit("echo", delay_seconds=100)
    [due] = await reasons(api, later)
    assert (due["reason"], due["until"]) == ("due", later["due_at"])
    assert due["detail"].startswith("it is due at 20")
    await service.relay()
    await service.maintenance()
    await service.worker(worker_modules=("tests.integration.handlers",), retry_delays_seconds=(100,))
    failing = await api.submit("test.fail", max_retries=1)
    [retry] = await until(api, failing, "retry")
    assert retry["detail"].startswith("its next attempt is due at 20")
    done = await api.submit("echo")
    await api.get(done["id"], wait=10)
    assert (await api.call("GET", f"/v1/tasks/{done['id']}"))[1]["waiting_for"] is None


async def test_outbox_and_broker(service: Service) -> None:
    api = await service.api(rabbitmq_url=f"amqp://localhost:{free_port()}/")
    task = await api.submit("echo")
    found = await until(api, task, "broker", "outbox", "no_worker")
    assert found[0]["detail"].startswith("RabbitMQ is away: ")
    assert found[1]["detail"].startswith("it is in the outbox since 20")
    await service.query("UPDATE aftercommit.outbox_rows SET failed_at = now(), last_error = 'NO_ROUTE'")
    found = await reasons(api, task)
    assert (found[0]["reason"], found[0]["detail"]) == (
        "parked",
        "its message is parked: NO_ROUTE. POST /v1/outbox/requeue sends it again",
    )


async def test_workers_and_handlers(service: Service) -> None:
    api = await service.api()
    await service.relay()
    await service.maintenance()
    strange = await api.submit("shop.strange")
    await until(api, strange, "no_worker")
    await api.call("POST", "/v1/queues/tasks/pause")
    await service.worker()
    found = await until(api, strange, "paused", "no_handler")
    assert found[1]["detail"] == "no worker that serves tasks.medium has a handler for shop.strange"


async def test_pause_and_deletion(service: Service) -> None:
    api = await service.api()
    await service.relay()
    await service.declare()
    await service.worker(worker_queues=ANY)
    await api.call("POST", "/v1/queues/tasks/pause", {"by": "Ada: the provider is down"})
    await asyncio.sleep(1)
    task = await api.submit("echo")
    [paused] = await until(api, task, "paused")
    assert paused["detail"].endswith("by Ada: the provider is down")
    assert paused["since"] is not None
    await api.call("PUT", "/v1/queues/old", {})
    await api.call("POST", "/v1/queues/old/pause")
    await asyncio.sleep(1)
    other = await api.submit("echo", queue="old")
    await api.call("DELETE", "/v1/queues/old?cancel=true")
    await until(api, other, "deleting", "paused")


async def test_limits_and_turns(service: Service) -> None:
    api = await service.api()
    await service.relay()
    await service.maintenance()
    await service.worker(
        worker_modules=("tests.integration.handlers",),
        worker_queues=ANY,
        worker_concurrency=3,
        worker_lease_renew_seconds=0.3,
    )
    await api.call("PUT", "/v1/queues/few", {"max_running": 1})
    await api.call("PUT", "/v1/queues/slow", {"rate_per_second": 0.05})
    slow = [await api.submit("echo", queue="slow") for _ in range(2)]
    await api.get(slow[0]["id"], wait=10)
    [rate] = await until(api, slow[1], "rate")
    assert rate["detail"].startswith("slow starts 0.05 tasks a second, the next at 20")
    few = [await api.submit("test.sleep", queue="few", payload={"seconds": 60}) for _ in range(2)]
    [limit] = await until(api, few[1], "max_running")
    assert limit["detail"].startswith("1 of 1 tasks that few may run at a time run now, on ")
    busy = [await api.submit("test.sleep", priority="high", payload={"seconds": 60}) for _ in range(2)]
    for task in busy:
        while (await api.get(task["id"]))["status"] != "running":
            await asyncio.sleep(0.05)
    first = await api.submit("echo")
    await until(api, first, "workers_busy")
    [turn] = await until(api, await api.submit("echo"), "tasks_before")
    assert turn["detail"] == "1 unfinished tasks of tasks.medium came before it; those that run count"
    for task in (*few, *busy):
        await api.call("POST", f"/v1/tasks/{task['id']}/cancel")
