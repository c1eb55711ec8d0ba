"""A broker that comes back without what it held is noticed at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.marker import MARKER, Marker
from aftercommit.core.queues import QueueType
from aftercommit.core.settings import Settings
from aftercommit.core.states import Status
from aftercommit.db import reconcile
from aftercommit.db.database import Database, DatabaseConnection
from aftercommit.devstack.servers import Servers
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.runtime.notifier import Notifier
from aftercommit.server.maintenance.loss_detector import LossDetector
from tests.integration.rows import add_tasks, ids
from tests.integration.service import Api, Service

INTERVAL_SECONDS = 7.0

Detect = Callable[[QueueType], LossDetector]


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[BrokerConnection]:
    opened = BrokerConnection(settings.rabbitmq_url, name="test")
    yield opened
    await opened.close()


@pytest.fixture
async def detect(settings: Settings, connection: BrokerConnection) -> AsyncIterator[Detect]:
    """Makes detectors whose rounds are called by the test."""
    database = Database(settings, application="test")
    notifier = Notifier(DatabaseConnection(settings, application="test"))

    def make(queue_type: QueueType) -> LossDetector:
        return LossDetector(
            database,
            notifier,
            Marker(connection, queue_type),
            queue_type=queue_type,
            work_queues=lambda: KnownQueues(settings.queues).work_queues,
            interval_seconds=INTERVAL_SECONDS,
        )

    yield make
    await database.close()


async def settle(detector: LossDetector) -> int:
    """Let it look until it has nothing to do; how many steps it took."""
    steps = 0
    while await detector.run_once() == 0:
        steps += 1
    return steps


async def lose_marker(connection: BrokerConnection) -> None:
    async with connection.channel() as channel:
        await channel.queue_delete(MARKER)


async def forget(connection: BrokerConnection, *detectors: LossDetector) -> None:
    """The marker was there, and is gone now."""
    for detector in detectors:
        await settle(detector)
    await lose_marker(connection)


async def sent(service: Service) -> list[Any]:
    rows = await service.query("SELECT unnest(task_ids) AS task_id FROM aftercommit.outbox_rows ORDER BY id")
    return [row.task_id for row in rows]


async def running(service: Service, queue_type: str) -> Api:
    """Maintenance and relay of an installation whose reconciler would take an hour, and its API."""
    await service.maintenance(rabbitmq_queue_type=queue_type, reconcile_after_seconds=3600.0)
    await service.relay(rabbitmq_queue_type=queue_type)
    await service.until("SELECT EXISTS (SELECT FROM aftercommit.broker_marker)")
    return await service.api(rabbitmq_queue_type=queue_type)


async def wait_until_sent(service: Service) -> None:
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)")


async def test_messages_that_a_restart_took_are_sent_again_within_ten_seconds(
    service: Service, servers: Servers
) -> None:
    api = await running(service, "classic")
    await api.submit_batch([{"type": "echo"} for _ in range(500)])
    await wait_until_sent(service)
    await asyncio.to_thread(servers.rabbitmq.restart)
    await service.until(
        "SELECT count(*) = 500 FROM aftercommit.tasks t, aftercommit.broker_marker m"
        " WHERE t.queued_at > t.created_at AND m.resent_at >= t.queued_at",
        seconds=10,
    )
    await service.worker()
    await service.until_idle(seconds=30)
    (row,) = await service.query(
        "SELECT count(*), max(attempt), max(dispatch) FROM aftercommit.tasks WHERE status = 'succeeded'"
    )
    assert tuple(row) == (500, 1, 1)


async def test_retry_that_a_restart_took_runs_when_it_is_due(service: Service, servers: Servers) -> None:
    """Its time is brought nearer when the scheduler has it: the restart must fall into the delay."""
    api = await running(service, "classic")
    worker = await service.worker(retry_delays_seconds=(60,))
    task = await api.submit("test.fail_until", payload={"attempt": 2})
    await service.until("SELECT EXISTS (SELECT FROM aftercommit.tasks WHERE status = 'retrying')")
    await wait_until_sent(service)
    await asyncio.to_thread(servers.rabbitmq.kill)
    await asyncio.to_thread(servers.rabbitmq.start)
    await service.until("SELECT EXISTS (SELECT FROM aftercommit.tasks WHERE NOT enqueued)")
    nearer = "UPDATE aftercommit.tasks SET due_at = now() + interval '1 second' WHERE NOT enqueued RETURNING due_at"
    (due,) = await service.query(
        f"WITH before AS (SELECT due_at - queued_at AS delay FROM aftercommit.tasks), nearer AS ({nearer})"
        " SELECT delay = interval '60 seconds' AS as_planned, due_at FROM before, nearer"
    )
    done = await api.get(task["id"], wait=30)
    assert (done["status"], done["dispatch"], due.as_planned) == ("succeeded", 2, True)
    assert datetime.fromisoformat(done["started_at"]) >= due.due_at
    await worker.stop()


@pytest.mark.parametrize("queue_type", QueueType)
async def test_messages_of_a_wiped_broker_are_sent_again_at_once(
    queue_type: str, service: Service, servers: Servers
) -> None:
    api = await running(service, queue_type)
    await api.submit_batch([{"type": "echo"} for _ in range(50)])
    await wait_until_sent(service)
    vhost = service.settings.rabbitmq_url.rsplit("/", 1)[1]
    servers.rabbitmq.delete_vhost(vhost)
    servers.rabbitmq.create_vhost(vhost)
    await service.worker()
    await service.until_idle(seconds=30)
    (row,) = await service.query("SELECT count(*), max(attempt) FROM aftercommit.tasks WHERE status = 'succeeded'")
    assert tuple(row) == (50, 1)


async def test_restart_of_quorum_queues_sends_nothing_again(service: Service, servers: Servers, detect: Detect) -> None:
    detector = detect(QueueType.QUORUM)
    await settle(detector)
    await asyncio.to_thread(servers.rabbitmq.restart)
    (before,) = await service.query("SELECT lost_before FROM aftercommit.broker_marker")
    for _ in range(3):
        assert await settle(detector) == 0
    (after,) = await service.query("SELECT lost_before FROM aftercommit.broker_marker")
    assert before == after


async def test_what_was_sent_out_while_the_broker_was_away_is_not_sent_again(
    service: Service, servers: Servers, detect: Detect
) -> None:
    detector = detect(QueueType.CLASSIC)
    await settle(detector)
    lost, later = ids(2)
    await add_tasks(service, [lost], Status.QUEUED)
    await asyncio.to_thread(servers.rabbitmq.kill)
    assert await detector.run_once() == INTERVAL_SECONDS
    # As the relay leaves it, which was back before the detector.
    await add_tasks(service, [later], Status.QUEUED)
    await asyncio.to_thread(servers.rabbitmq.start)
    assert await settle(detector) > 0
    assert await sent(service) == [lost]


async def test_first_start_sends_nothing_again(service: Service, detect: Detect) -> None:
    await add_tasks(service, ids(3, seconds_ago=60), Status.QUEUED, sent_seconds_ago=60)
    assert await settle(detect(QueueType.CLASSIC)) == 0
    assert await sent(service) == []


async def test_only_tasks_whose_message_must_be_gone_are_sent_again(
    service: Service, connection: BrokerConnection, detect: Detect
) -> None:
    detector = detect(QueueType.CLASSIC)
    await forget(connection, detector)
    lost, running_, due, delayed, scheduled, unpublished = ids(6, seconds_ago=60)
    later = ids(1, seconds_ago=0)
    await add_tasks(service, [lost], Status.QUEUED, sent_seconds_ago=60)
    await add_tasks(service, [running_], Status.RUNNING, worker="worker", sent_seconds_ago=60)
    await add_tasks(service, [due, delayed], Status.RETRYING, sent_seconds_ago=60)
    await add_tasks(service, [scheduled], Status.RETRYING, due_seconds_ago=-60, sent_seconds_ago=60)
    await add_tasks(service, [unpublished], Status.QUEUED, sent_seconds_ago=60)
    await add_tasks(service, later, Status.QUEUED, sent_seconds_ago=-60)
    await service.query(
        "UPDATE aftercommit.tasks SET due_at = now() + make_interval(secs => CASE WHEN id = :due THEN -5 ELSE 60 END)"
        " WHERE id IN (:due, :delayed)",
        due=due,
        delayed=delayed,
    )
    await service.query(
        "INSERT INTO aftercommit.outbox_rows (work_queue, task_ids, dispatches)"
        " VALUES ('tasks.medium', ARRAY[CAST(:id AS uuid)], '{1}')",
        id=unpublished,
    )
    await settle(detector)
    assert await sent(service) == [unpublished, lost, due]
    left = await service.query("SELECT id FROM aftercommit.tasks WHERE NOT enqueued ORDER BY id")
    assert [row.id for row in left] == [delayed, scheduled]
    assert await settle(detector) == 0


@pytest.mark.parametrize("take_over_seconds", [10.0, 0.0])
async def test_several_detectors_send_each_task_again_once(
    take_over_seconds: float,
    service: Service,
    connection: BrokerConnection,
    detect: Detect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aftercommit.server.maintenance.loss_detector.LOOK", 40)
    detectors = [detect(QueueType.CLASSIC) for _ in range(3)]
    await forget(connection, *detectors)
    lost = ids(300, seconds_ago=60)
    await add_tasks(service, lost, Status.QUEUED, sent_seconds_ago=60)
    monkeypatch.setattr("aftercommit.server.maintenance.loss_detector.TAKE_OVER_SECONDS", take_over_seconds)
    await asyncio.gather(*map(settle, detectors))
    assert sorted(await sent(service)) == lost


async def test_walk_goes_on_in_bounded_steps(
    service: Service, connection: BrokerConnection, detect: Detect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aftercommit.server.maintenance.loss_detector.LOOK", 100)
    detector = detect(QueueType.CLASSIC)
    await forget(connection, detector)
    lost = ids(250, seconds_ago=60)
    await add_tasks(service, lost, Status.QUEUED, sent_seconds_ago=60)
    sizes: list[int] = []
    resend = reconcile.resend

    async def count(fetch: Any, task_ids: Any, **options: Any) -> int:
        sizes.append(len(task_ids))
        return await resend(fetch, task_ids, **options)

    monkeypatch.setattr(reconcile, "resend", count)
    # tasks.high, three steps for tasks.medium, tasks.low, and the end.
    assert await settle(detector) == 6
    assert sizes == [100, 100, 50]
    assert await sent(service) == lost


async def test_second_loss_during_the_walk_begins_it_anew(
    service: Service, connection: BrokerConnection, detect: Detect, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = detect(QueueType.CLASSIC)
    await forget(connection, detector)
    (task_id,) = ids(1, seconds_ago=60)
    await add_tasks(service, [task_id], Status.QUEUED, work_queue="tasks.high", sent_seconds_ago=60)
    assert await detector.run_once() == 0
    assert await sent(service) == [task_id]
    await service.query("DELETE FROM aftercommit.outbox_rows")  # as a relay does that has published it
    await lose_marker(connection)
    monkeypatch.setattr(detector, "_interval_seconds", 0.0)
    await detector.run_once()
    monkeypatch.undo()
    await settle(detector)
    assert await sent(service) == [task_id]


async def test_locked_task_holds_up_nobody(service: Service, connection: BrokerConnection, detect: Detect) -> None:
    detector = detect(QueueType.CLASSIC)
    await forget(connection, detector)
    locked, *others = ids(10, seconds_ago=60)
    await add_tasks(service, [locked, *others], Status.QUEUED, sent_seconds_ago=60)
    async with service.engine.begin() as elsewhere, asyncio.timeout(10):
        await elsewhere.execute(text(f"SELECT FROM aftercommit.tasks WHERE id = '{locked}' FOR UPDATE"))
        await settle(detector)
    assert await sent(service) == others


async def test_change_of_the_type_replaces_the_marker_and_sends_nothing_again(
    service: Service, connection: BrokerConnection, detect: Detect
) -> None:
    await settle(detect(QueueType.QUORUM))
    await add_tasks(service, ids(3, seconds_ago=60), Status.QUEUED, sent_seconds_ago=60)
    assert await settle(detect(QueueType.CLASSIC)) == 0
    assert await sent(service) == []
    await lose_marker(connection)
    assert await settle(detect(QueueType.CLASSIC)) > 0
    assert len(await sent(service)) == 3


@pytest.mark.parametrize("queue_type", QueueType)
async def test_marker_that_is_there_takes_no_second_one(
    queue_type: QueueType, connection: BrokerConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await Marker(connection, queue_type).was_gone()
    again = Marker(connection, queue_type)
    assert not await again.was_gone()

    async def none_yet() -> int:
        return 0

    # As when another process plants it in between.
    monkeypatch.setattr(again, "_declare", none_yet)
    assert not await again.was_gone()


async def test_marker_under_quorum_queues_is_no_message(connection: BrokerConnection) -> None:
    assert await Marker(connection, QueueType.QUORUM).was_gone()
    async with connection.channel() as channel:
        queue = await channel.declare_queue(MARKER, passive=True)
    assert queue.declaration_result.message_count == 0


@pytest.mark.parametrize("queue_type", QueueType)
async def test_one_of_several_that_look_at_once_finds_the_marker_gone(
    queue_type: QueueType, connection: BrokerConnection
) -> None:
    markers = [Marker(connection, queue_type) for _ in range(4)]
    assert any(await asyncio.gather(*(marker.was_gone() for marker in markers)))


async def test_marker_that_may_not_be_declared_is_logged_once(
    service: Service, servers: Servers, detect: Detect
) -> None:
    vhost = service.settings.rabbitmq_url.rsplit("/", 1)[1]
    servers.rabbitmq.management.call("PUT", "/api/users/nobody", {"password": "nobody", "tags": ""})
    servers.rabbitmq.management.call(
        "PUT", f"/api/permissions/{vhost}/nobody", {"configure": "^$", "write": ".*", "read": ".*"}
    )
    connection = BrokerConnection(service.settings.rabbitmq_url.replace("guest:guest", "nobody:nobody"), name="nobody")
    marker = Marker(connection, QueueType.CLASSIC)
    with capture_logs() as logs:
        for _ in range(3):
            assert not await marker.was_gone()
    await connection.close()
    servers.rabbitmq.management.call("DELETE", "/api/users/nobody")
    assert [log["queue"] for log in logs if log["event"] == "marker_unusable"] == [MARKER]
