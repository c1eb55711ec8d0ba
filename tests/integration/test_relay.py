"""The relay, alone and beside others, and what RabbitMQ may do to it."""

import asyncio

import pytest
from sqlalchemy import text

from aftercommit.devstack.servers import Servers
from aftercommit.server.relay import read_cursors
from aftercommit.server.relay.backoff import Backoffs
from tests.integration.service import Api, Service
from tests.long_runs import often

BATCHES = often(2, long=8)
LAG_SECONDS = 0.5
LATE = {"id": "0199a3c5-7e4b-7c11-9a55-0d9f4c5be7aa"}
ADD = text(
    "INSERT INTO aftercommit.outbox_rows (work_queue, task_ids, dispatches)"
    " VALUES ('tasks.high', ARRAY[CAST(:id AS uuid)], '{1}')"
)


async def test_two_relays_and_two_workers_run_each_of_many_tasks_once(service: Service) -> None:
    api = await service.api()
    for _ in range(2):
        await service.relay()
        await service.worker()
    for _ in range(BATCHES):
        await api.submit_batch([{"type": "echo"} for _ in range(2_500)])
    await service.until_idle(seconds=90)
    (row,) = await service.query(
        "SELECT count(*), max(attempt), max(dispatch) FROM aftercommit.tasks WHERE status = 'succeeded'"
    )
    assert tuple(row) == (2_500 * BATCHES, 1, 1)


async def test_short_tasks_share_messages_and_each_runs_once(service: Service) -> None:
    api = await service.api()
    await service.query(
        "INSERT INTO aftercommit.queue_statistics (work_queue, passed_at, task_seconds)"
        " VALUES ('tasks.high', now(), 0.001)"
    )
    for priority in ("high", "low"):
        await api.submit_batch([{"type": "echo", "priority": priority} for _ in range(400)])
    await service.relay()
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)")
    channel = await (await service.declare()).open_channel()
    high = await channel.declare_queue("tasks.high", passive=True)
    low = await channel.declare_queue("tasks.low", passive=True)
    assert (high.declaration_result.message_count, low.declaration_result.message_count) == (8, 400)
    await service.worker()
    await service.until_idle(seconds=60)
    (row,) = await service.query("SELECT count(*), max(attempt) FROM aftercommit.tasks WHERE status = 'succeeded'")
    assert tuple(row) == (800, 1)


async def test_row_for_a_queue_that_does_not_exist_is_parked_and_can_be_requeued(service: Service) -> None:
    api = await service.api()
    await service.relay(outbox_max_attempts=2)
    await service.query(
        "INSERT INTO aftercommit.outbox_rows (work_queue, task_ids, dispatches)"
        " VALUES ('nowhere.high', ARRAY[gen_random_uuid()], '{1}')"
    )
    # A row beside it is not held up.
    await service.worker()
    task = await api.submit("echo")
    assert (await api.get(task["id"], wait=30))["status"] == "succeeded"
    await service.until("SELECT count(*) = 1 FROM aftercommit.outbox_rows WHERE failed_at IS NOT NULL")
    _, outbox = await api.call("GET", "/v1/outbox")
    assert (outbox["unpublished"], outbox["failed"]) == (0, 1)
    (parked,) = outbox["failed_rows"]
    assert parked["attempts"] == 2
    assert "NO_ROUTE" in parked["last_error"]

    connection = await service.declare()
    channel = await connection.open_channel()
    await channel.declare_queue("nowhere.high", durable=True)
    assert (await api.call("POST", "/v1/outbox/requeue", {"ids": [parked["id"]]}))[1] == {"requeued": 1}
    await service.until("SELECT count(*) = 0 FROM aftercommit.outbox_rows")


@pytest.fixture
def short_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cursors follow what was published by LAG_SECONDS."""
    monkeypatch.setattr(read_cursors, "LAG_SECONDS", LAG_SECONDS)


@pytest.mark.usefixtures("short_lag")
async def test_row_whose_transaction_took_long_is_found_although_later_ones_were_relayed(service: Service) -> None:
    api = await service.api()
    await service.relay()
    async with service.engine.begin() as late:
        await late.execute(ADD, LATE)
        for _ in range(3):
            await api.submit("echo", priority="high")
            await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)")
            await asyncio.sleep(LAG_SECONDS)  # until the cursor has followed
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)")


@pytest.mark.usefixtures("short_lag")
async def test_rows_are_relayed_although_ids_went_back(service: Service) -> None:
    """As after the loss of a primary whose standby lagged behind."""
    api = await service.api()
    await service.relay()
    for _ in range(3):
        await api.submit("echo", priority="high")
        await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)")
        await asyncio.sleep(LAG_SECONDS)  # until the cursor has followed
    await service.query("ALTER SEQUENCE aftercommit.outbox_id_seq RESTART")
    await api.submit("echo", priority="high")
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)")


async def test_row_for_a_destination_that_no_setting_names_is_found(service: Service) -> None:
    channel = await (await service.declare()).open_channel()
    await channel.declare_queue("old.high", durable=True)
    await service.relay()
    await service.query(
        "INSERT INTO aftercommit.outbox_rows (work_queue, task_ids, dispatches)"
        " VALUES ('old.high', ARRAY[gen_random_uuid()], '{1}')"
    )
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)")


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when a relay was refused a message."""
    event, original = asyncio.Event(), Backoffs.refused

    def tell(backoffs: Backoffs, destination: str, *, now: float) -> None:
        original(backoffs, destination, now=now)
        event.set()

    monkeypatch.setattr(Backoffs, "refused", tell)
    return event


async def fill_queue(api: Api, service: Service, servers: Servers, refused: asyncio.Event) -> str:
    """A work queue that takes no more although tasks for it still wait in the outbox; the path of the limit."""
    await service.declare()
    policy = f"/api/policies/{service.settings.rabbitmq_url.rsplit('/', 1)[1]}/short"
    limit = {"pattern": "^tasks.low$", "definition": {"max-length": 10}, "apply-to": "queues"}
    servers.rabbitmq.management.call("PUT", policy, limit)
    for _ in range(10):  # a round takes whole rows
        await api.submit_batch([{"type": "echo", "priority": "low"} for _ in range(10)])
    await service.relay(outbox_batch_size=10)
    async with asyncio.timeout(30):
        await refused.wait()
    return policy


async def test_full_queue_takes_the_rest_when_its_limit_is_lifted(
    service: Service, servers: Servers, refused: asyncio.Event
) -> None:
    policy = await fill_queue(await service.api(), service, servers, refused)
    servers.rabbitmq.management.call("DELETE", policy)
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)")


async def test_full_queue_backs_off_without_counting_and_without_holding_up_others(
    service: Service, servers: Servers, refused: asyncio.Event
) -> None:
    await fill_queue(await service.api(), service, servers, refused)
    await service.worker()
    await service.until_idle()
    (row,) = await service.query("SELECT count(*), max(attempt) FROM aftercommit.tasks WHERE status = 'succeeded'")
    assert tuple(row) == (100, 1)


async def test_retry_delay_that_the_relay_does_not_know_gets_its_queue(service: Service) -> None:
    api = await service.api()
    await service.relay(retry_delays_seconds=(60,))
    await service.worker(retry_delays_seconds=(1,))
    task = await api.submit("test.fail_until", payload={"attempt": 2})
    assert (await api.get(task["id"], wait=30))["status"] == "succeeded"


@pytest.mark.parametrize("destroy", ["queue", "exchange", "vhost"])
async def test_topology_that_vanished_comes_back(service: Service, servers: Servers, destroy: str) -> None:
    api = await service.api()
    await service.relay(outbox_max_attempts=1000)
    await service.worker()
    await service.maintenance(topology_interval_seconds=0.5)
    warm = await api.submit("test.fail_until", payload={"attempt": 2})
    await api.get(warm["id"], wait=30)
    vhost = service.settings.rabbitmq_url.rsplit("/", 1)[1]
    match destroy:
        case "queue":
            servers.rabbitmq.management.call("DELETE", f"/api/queues/{vhost}/tasks.medium")
        case "exchange":
            servers.rabbitmq.management.call("DELETE", f"/api/exchanges/{vhost}/tasks.retry.1")
        case _:
            servers.rabbitmq.delete_vhost(vhost)
            servers.rabbitmq.create_vhost(vhost)
    task = await api.submit("test.fail_until", payload={"attempt": 2})
    assert (await api.get(task["id"], wait=45))["status"] == "succeeded"
