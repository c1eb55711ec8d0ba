"""Limits of a queue that all workers share."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from aftercommit.core.queues import WorkQueuePattern
from aftercommit.worker.limits import SOON_SECONDS
from tests.integration import limit_handlers
from tests.integration.service import Api, RunningRole, Service

ANY = ((WorkQueuePattern.parse("*"), None),)
MODULE = "tests.integration.limit_handlers"


@pytest.fixture(autouse=True)
def _nothing_ran() -> Iterator[None]:
    limit_handlers.RAN.clear()
    yield
    limit_handlers.RAN.clear()


async def a_worker(service: Service, *, slots: int = 20) -> RunningRole:
    return await service.worker(worker_modules=(MODULE,), worker_queues=ANY, worker_concurrency=slots)


async def an_api(service: Service, **limits: object) -> Api:
    """Of an installation with the queue ``few``, which has ``limits``."""
    api = await service.api()
    await service.relay()
    await service.maintenance()
    status, queue = await api.call("PUT", "/v1/queues/few", limits)
    assert status == 201, queue
    return api


async def submit(api: Api, count: int, *, queue: str = "few", seconds: float = 0.05) -> None:
    await api.submit_batch([{"type": "test.observed", "queue": queue, "payload": {"seconds": seconds}}] * count)


async def grants(service: Service) -> int:
    return int((await service.query("SELECT coalesce(sum(granted), 0) FROM aftercommit.queue_grants"))[0][0])


async def most_over(service: Service, rate: float) -> float:
    """By how many the starts of ``few`` exceeded ``rate`` in the worst stretch of time. A start is the claim, which
    Postgres dates: a handler's first line comes later, by whatever keeps the machine busy."""
    started = "SELECT extract(epoch FROM first_started_at)::float8 FROM aftercommit.tasks WHERE queue = 'few'"
    return limit_handlers.most_over([row[0] for row in await service.query(started)], rate)


async def test_max_running_holds_over_four_workers_and_is_used(service: Service) -> None:
    api = await an_api(service, max_running=5)
    for _ in range(4):
        await a_worker(service)
    await submit(api, 500)
    await submit(api, 500, queue="tasks")
    await service.until_idle()
    assert limit_handlers.most_at_a_time("few") == 5
    assert limit_handlers.used("few", 5) > 0.7  # measured on a quiet machine: over 0.9
    assert limit_handlers.most_at_a_time("tasks") > 20
    assert await grants(service) <= 5


async def test_max_running_holds_while_workers_come_and_go_and_it_changes(service: Service) -> None:
    api = await an_api(service, max_running=4)
    workers = [await a_worker(service) for _ in range(2)]
    await submit(api, 400)
    await asyncio.sleep(1)
    workers.append(await a_worker(service))
    await workers[0].stop()
    await asyncio.sleep(1)
    await a_worker(service)
    await asyncio.sleep(1)
    assert limit_handlers.most_at_a_time("few") <= 4
    await api.call("PUT", "/v1/queues/few", {"max_running": 1})
    await asyncio.sleep(2)
    limit_handlers.RAN.clear()
    await asyncio.sleep(1)
    assert limit_handlers.most_at_a_time("few") == 1
    await api.call("PUT", "/v1/queues/few", {})
    await service.until_idle()
    await asyncio.sleep(1.5)
    assert await grants(service) == 0


async def test_worker_that_does_not_serve_a_queue_holds_no_part_of_its_limit(service: Service) -> None:
    api = await an_api(service, max_running=2)
    await service.worker(worker_modules=(MODULE,))
    await a_worker(service)
    await submit(api, 20)
    await service.until_idle()
    assert len(await service.query("SELECT worker FROM aftercommit.queue_grants")) == 1
    assert limit_handlers.most_at_a_time("few") == 2


async def test_grant_of_a_dead_worker_counts_until_its_tasks_were_taken(service: Service) -> None:
    api = await an_api(service, max_running=2)
    await service.query(
        "INSERT INTO aftercommit.workers (name, handlers, lease_until) VALUES ('dead', '{}', now() + interval '3 s')"
    )
    await service.query("INSERT INTO aftercommit.queue_grants VALUES ('few', 'dead', 2, 2, 2)")
    await a_worker(service)
    await submit(api, 5)
    began = time.monotonic()
    await service.until_idle()
    assert time.monotonic() - began > 2
    assert limit_handlers.most_at_a_time("few") <= 2
    assert await service.query("SELECT worker FROM aftercommit.queue_grants WHERE worker = 'dead'") == []


async def test_rate_holds_over_workers(service: Service) -> None:
    api = await an_api(service, rate_per_second=50, burst=10)
    for _ in range(3):
        await a_worker(service)
    await submit(api, 300, seconds=0)
    await submit(api, 300, queue="tasks", seconds=0)
    await service.until_idle()
    ran = limit_handlers.RAN["few"]
    took = max(began for began, _ in ran) - min(began for began, _ in ran)
    assert await most_over(service, 50) <= 10
    assert 300 / took == pytest.approx(50, rel=0.15)  # a minute is within 5 %
    others = limit_handlers.RAN["tasks"]
    assert max(began for began, _ in others) - min(began for began, _ in others) < took / 2


async def test_slow_rate_starts_one_after_the_other(service: Service) -> None:
    api = await an_api(service, rate_per_second=2)
    await a_worker(service)
    await a_worker(service)
    await submit(api, 6, seconds=0)
    await service.until_idle()
    starts = sorted(began for began, _ in limit_handlers.RAN["few"])
    assert await most_over(service, 2) <= 2
    assert starts[-1] - starts[0] > 1.7


async def test_slow_rate_goes_on_after_messages_were_handed_back(service: Service) -> None:
    api = await an_api(service, rate_per_second=1)
    for _ in range(2):
        await service.worker(worker_modules=(MODULE,), worker_queues=ANY, worker_hand_back_seconds=0.2)
    await submit(api, 4, seconds=0)
    await service.until_idle(seconds=15)
    assert await most_over(service, 1) <= 1 + SOON_SECONDS  # a burst of one has no room for the time of a token


async def test_rate_and_max_running_hold_together(service: Service) -> None:
    api = await an_api(service, rate_per_second=20, burst=5, max_running=2)
    await a_worker(service)
    await a_worker(service)
    await submit(api, 60, seconds=0.02)
    await service.until_idle()
    assert limit_handlers.most_at_a_time("few") <= 2
    assert await most_over(service, 20) <= 5
