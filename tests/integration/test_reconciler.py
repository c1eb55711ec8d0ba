"""Tasks whose message vanished are sent again."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.inspection import Inspector
from aftercommit.core.settings import Settings
from aftercommit.core.states import Status
from aftercommit.db import reconcile
from aftercommit.db.database import Database, DatabaseConnection
from aftercommit.db.reconcile import Stretch
from aftercommit.devstack.servers import Servers
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.runtime.notifier import Notifier
from aftercommit.server.maintenance.reconciler import Reconciler
from tests.integration.rows import add_tasks, add_worker, ids
from tests.integration.service import Api, Service

INTERVAL_SECONDS = 7.0


@pytest.fixture
async def reconciler(settings: Settings) -> AsyncIterator[Reconciler]:
    """Its rounds are called by the test."""
    database = Database(settings, application="test")
    broker = BrokerConnection(settings.rabbitmq_url, name="test")
    notifier = Notifier(DatabaseConnection(settings, application="test"))
    patient = settings.model_copy(
        update={"reconcile_interval_seconds": INTERVAL_SECONDS, "reconcile_after_seconds": 60.0}
    )
    queues = KnownQueues(patient.queues)
    yield Reconciler(database, notifier, Inspector(broker), patient, lambda: queues.work_queues)
    await broker.close()
    await database.close()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "reconcile_interval_seconds": 0.3,
            "reconcile_after_seconds": 1.0,
        }
    )


@pytest.fixture
async def api(service: Service) -> Api:
    await service.maintenance()
    await service.relay()
    return await service.api()


async def wait_until_sent(service: Service) -> None:
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)")


async def test_tasks_whose_messages_were_wiped_are_sent_again(api: Api, service: Service, servers: Servers) -> None:
    await api.submit_batch([{"type": "echo"} for _ in range(500)])
    await wait_until_sent(service)
    vhost = service.settings.rabbitmq_url.rsplit("/", 1)[1]
    servers.rabbitmq.delete_vhost(vhost)
    servers.rabbitmq.create_vhost(vhost)
    await service.worker()
    await service.until_idle(seconds=30)
    (row,) = await service.query(
        "SELECT count(*), max(attempt), max(dispatch) FROM aftercommit.tasks WHERE status = 'succeeded'"
    )
    assert tuple(row) == (500, 1, 1)


async def test_task_that_was_passed_over_is_sent_again_while_others_wait(
    api: Api, service: Service, servers: Servers
) -> None:
    lost = await api.submit("echo")
    await wait_until_sent(service)
    vhost = service.settings.rabbitmq_url.rsplit("/", 1)[1]
    servers.rabbitmq.management.call("DELETE", f"/api/queues/{vhost}/tasks.medium/contents")
    # A queue that is never empty: more waits than this worker runs.
    await service.worker(worker_concurrency=1, worker_prefetch=1)
    await feed(api, service, lost)
    assert (await api.get(lost["id"], wait=20))["status"] == "succeeded"


async def feed(api: Api, service: Service, lost: dict[str, Any]) -> None:
    """Keep the queue filled until the lost task has run."""
    async with asyncio.timeout(30):
        while (await api.get(lost["id"]))["status"] != "succeeded":
            await api.submit_batch([{"type": "test.sleep", "payload": {"seconds": 0.02}} for _ in range(40)])
            await service.until("SELECT count(*) < 80 FROM aftercommit.tasks WHERE finished_at IS NULL")


async def test_nothing_is_sent_again_while_messages_wait_and_nobody_consumes(
    service: Service, reconciler: Reconciler
) -> None:
    await service.relay()
    api = await service.api()
    await api.submit_batch([{"type": "echo"} for _ in range(200)])
    await wait_until_sent(service)
    await service.query("UPDATE aftercommit.tasks SET queued_at = queued_at - interval '1 hour'")
    for _ in range(4):
        assert await reconciler.run_once() == INTERVAL_SECONDS
    assert await sent_again(service) == 0


async def sent_again(service: Service) -> int:
    """How many of the tasks that were sent out long ago stand at the end of the queue by now."""
    (row,) = await service.query(
        "SELECT count(*) FROM aftercommit.tasks WHERE queued_at > now() - interval '30 minutes'"
    )
    return int(row[0])


async def test_look_at_a_backlog_is_bounded_and_goes_on_where_it_stopped(
    service: Service, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aftercommit.server.maintenance.reconciler.LOOK", 100)
    await service.declare()
    *waiting, lost = ids(251, seconds_ago=600)
    await add_tasks(service, waiting, Status.RETRYING)
    await add_tasks(service, [lost], Status.QUEUED, sent_seconds_ago=600)
    looks: list[int] = []
    monkeypatch.setattr(reconcile, "find_passed_over", counted(reconcile.find_passed_over, looks))
    # The first look learns that the queue is empty, the third comes to the lost one.
    for _ in range(3):
        await reconciler.run_once()
    assert await service.query("SELECT id FROM aftercommit.outbox_rows") == []
    await reconciler.run_once()
    assert await in_outbox(service) == [lost]
    assert max(looks) == 100


async def in_outbox(service: Service) -> list[UUID]:
    return [row.id for row in await service.query("SELECT unnest(task_ids) AS id FROM aftercommit.outbox_rows")]


def counted(find: Any, looks: list[int]) -> Any:
    async def call(*args: Any, **options: Any) -> Stretch:
        stretch: Stretch = await find(*args, **options)
        looks.append(stretch.looked)
        return stretch

    return call


async def test_id_that_a_fast_clock_made_is_looked_at_too(service: Service, reconciler: Reconciler) -> None:
    await service.declare()
    (lost,) = ids(1, seconds_ago=-1_800)
    await add_tasks(service, [lost], Status.QUEUED, sent_seconds_ago=600)
    for _ in range(2):
        await reconciler.run_once()
    assert await in_outbox(service) == [lost]


@pytest.mark.parametrize(
    ("hand_back_seconds", "alive", "resent"), [(3.0, True, 1), (400.0, True, 0), (400.0, False, 1)]
)
async def test_message_that_a_living_worker_may_still_hold_is_not_sent_again(
    hand_back_seconds: float, alive: bool, resent: int, service: Service, reconciler: Reconciler
) -> None:
    await service.declare()
    await add_worker(service, "worker", alive=alive, hand_back_seconds=hand_back_seconds)
    await add_tasks(service, ids(1, seconds_ago=600), Status.QUEUED, sent_seconds_ago=600)
    for _ in range(2):
        await reconciler.run_once()
    assert len(await in_outbox(service)) == resent


@pytest.mark.parametrize(
    ("row", "resent"),
    [
        ("'tasks.medium', NULL, NULL", 0),
        ("'tasks.medium', 77, NULL", 0),  # a delay that this process was not told of
        ("'tasks.high', 77, NULL", 1),
        ("'tasks.high', NULL, NULL", 1),
        ("'tasks.medium', NULL, 'dead'", 1),
    ],
)
async def test_row_in_the_outbox_limits_what_is_sent_again(
    row: str, resent: int, service: Service, reconciler: Reconciler
) -> None:
    await service.declare()
    await add_tasks(service, ids(1, seconds_ago=600), Status.QUEUED, sent_seconds_ago=600)
    await service.query(
        "INSERT INTO aftercommit.outbox_rows (work_queue, delay_seconds, dead_reason, task_ids, dispatches, created_at)"
        f" VALUES ({row}, ARRAY[gen_random_uuid()], ARRAY[1], now() - interval '20 minutes')"
    )
    for _ in range(2):
        await reconciler.run_once()
    assert len(await in_outbox(service)) == 1 + resent


async def test_locked_task_holds_up_nobody(service: Service, reconciler: Reconciler) -> None:
    await service.declare()
    locked, *others = ids(10, seconds_ago=600)
    await add_tasks(service, [locked, *others], Status.QUEUED, sent_seconds_ago=600)
    async with service.engine.begin() as elsewhere:
        await elsewhere.execute(text(f"SELECT FROM aftercommit.tasks WHERE id = '{locked}' FOR UPDATE"))
        async with asyncio.timeout(10):
            for _ in range(2):
                await reconciler.run_once()
        assert set(await in_outbox(service)) == set(others)
