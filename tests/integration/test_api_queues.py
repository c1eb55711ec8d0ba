"""``/v1/queues`` and ``/v1/outbox``: what waits where."""

from typing import Any
from uuid import UUID

import pytest

from aftercommit.broker.message import Message
from aftercommit.broker.publisher import Publisher
from aftercommit.devstack.ports import free_port
from tests.integration.service import Api, Service, a_declarer

PARKED = """
    INSERT INTO aftercommit.outbox_rows (work_queue, task_ids, dispatches, attempts, last_error, failed_at)
    SELECT 'gone.high', ARRAY[gen_random_uuid(), gen_random_uuid()], '{1,1}', 10, 'no queue takes it', now()
    FROM generate_series(1, :count)
    RETURNING id
"""


CLAIM = "INSERT INTO aftercommit.claims (id, worker, task_ids) VALUES (gen_random_uuid(), 'w', :ids)"


async def queues(api: Api) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    status, answer = await api.call("GET", "/v1/queues")
    assert status == 200, answer
    return {queue["name"]: queue for queue in answer["queues"]}, answer


async def park(service: Service, count: int) -> list[int]:
    return sorted(row[0] for row in await service.query(PARKED, count=count))


async def test_queues_are_listed_when_nothing_is_declared_yet(service: Service) -> None:
    api = await service.api(queues=("tasks", "emails"))
    found, answer = await queues(api)
    assert list(found) == [f"{queue}.{level}" for queue in ("tasks", "emails") for level in ("high", "medium", "low")]
    empty = {"waiting": 0, "running": 0, "failed": 0, "oldest_waiting_seconds": None}
    assert all(empty.items() <= queue.items() and queue["ready"] is None for queue in found.values())
    assert (answer["dead_letters"], answer["broker"]) == (None, "up")


async def test_queue_counts_what_postgres_and_rabbitmq_have(service: Service) -> None:
    api = await service.api()
    connection = await service.declare()
    tasks = await api.submit_batch([{"type": "echo", "priority": "high"}] * 6)
    changes = {
        1: "status = 'running', worker = 'w'",
        2: "status = 'retrying'",
        3: """status = 'failed', finished_at = now(), error = '{"type": "A", "message": "b"}'""",
        4: "status = 'succeeded', finished_at = now()",
        5: """status = 'cancelled', finished_at = now(), error = '{"type": "Cancelled", "message": "b"}'""",
    }
    for index, change in changes.items():
        await service.query(f"UPDATE aftercommit.tasks SET {change} WHERE id = '{tasks[index]['id']}'")
    await service.query(
        f"UPDATE aftercommit.tasks SET queued_at = now() - interval '1 hour' WHERE id = '{tasks[0]['id']}'"
    )
    # Two claims of one worker list the task that runs, and others that ended.
    for ids in (tasks[1:4], tasks[1:2]):
        await service.query(CLAIM, ids=[UUID(task["id"]) for task in ids])
    publisher = Publisher(connection, a_declarer(connection, service.settings), confirm_seconds=10)
    await publisher.prepare()
    await publisher.publish(
        [
            Message("1", "", "tasks.high", b"{}"),
            Message("2", "", "tasks.high", b"{}"),
            Message("3", "", "tasks.dlq", b"{}"),
        ]
    )
    found, answer = await queues(api)
    high = found["tasks.high"]
    assert (high["waiting"], high["running"], high["failed"]) == (2, 1, 1)
    assert 3600 <= high["oldest_waiting_seconds"] < 3700
    assert (high["ready"], high["consumers"], answer["dead_letters"], answer["broker"]) == (2, 0, 1, "up")
    assert found["tasks.low"]["waiting"] == 0


async def test_queue_is_listed_when_it_has_tasks_but_is_configured_no_more(service: Service) -> None:
    old = await service.api(queues=("tasks", "emails"))
    await old.submit("echo", queue="emails", priority="low")
    found, _ = await queues(await service.api())
    assert found["emails.low"]["waiting"] == 1


async def test_broker_s_columns_are_null_when_it_is_down(service: Service) -> None:
    api = await service.api(rabbitmq_url=f"amqp://127.0.0.1:{free_port()}/")
    await api.submit("echo")
    found, answer = await queues(api)
    medium = found["tasks.medium"]
    assert (medium["waiting"], medium["ready"], medium["unacknowledged"], medium["consumers"]) == (1, None, None, None)
    assert answer["dead_letters"] is None
    assert answer["broker"].startswith("RabbitMQ cannot be reached: ")


async def test_counts_are_there_when_the_management_api_is_not(service: Service) -> None:
    api = await service.api(rabbitmq_management_url=f"http://127.0.0.1:{free_port()}")
    await service.declare()
    found, answer = await queues(api)
    assert (found["tasks.high"]["ready"], found["tasks.high"]["unacknowledged"], answer["broker"]) == (0, None, "up")


async def test_outbox_tells_what_waits_and_what_is_parked(service: Service) -> None:
    api = await service.api()
    empty: dict[str, Any] = {"unpublished": 0, "oldest_age_seconds": None, "failed": 0, "failed_rows": []}
    assert await api.call("GET", "/v1/outbox") == (200, empty)
    await api.submit_batch([{"type": "echo"}] * 3)
    await service.query("UPDATE aftercommit.outbox_rows SET created_at = now() - interval '1 minute'")
    ids = await park(service, 5)
    _, answer = await api.call("GET", "/v1/outbox?limit=2")
    assert (answer["unpublished"], answer["failed"]) == (3, 10)
    assert 60 <= answer["oldest_age_seconds"] < 120
    assert [row["id"] for row in answer["failed_rows"]] == ids[:2]
    row = answer["failed_rows"][0]
    assert (row["destination"], row["work_queue"], row["attempts"]) == ("gone.high", "gone.high", 10)
    assert row["last_error"] == "no queue takes it"
    assert len(row["task_ids"]) == 2
    _, answer = await api.call("GET", f"/v1/outbox?after={ids[1]}")
    assert [row["id"] for row in answer["failed_rows"]] == ids[2:]


async def test_parked_rows_wait_again_when_they_are_requeued(service: Service) -> None:
    api = await service.api()
    ids = await park(service, 5)
    waiting = (await api.submit("echo"))["id"]
    [row] = await service.query(f"SELECT id FROM aftercommit.outbox_rows WHERE task_ids = ARRAY['{waiting}'::uuid]")
    # Ids that are not parked, or not there, do not count.
    body = {"ids": [*ids[:2], row[0], 2**63 - 1]}
    assert await api.call("POST", "/v1/outbox/requeue", body) == (200, {"requeued": 4})
    assert await api.call("POST", "/v1/outbox/requeue", body) == (200, {"requeued": 0})
    # At the end, after which the relay still reads.
    rows = await service.query("SELECT attempts, failed_at FROM aftercommit.outbox_rows WHERE id > :last", last=row[0])
    assert [tuple(row) for row in rows] == [(0, None)] * 2
    assert await api.call("POST", "/v1/outbox/requeue", {}) == (200, {"requeued": 6})
    _, answer = await api.call("GET", "/v1/outbox")
    assert (answer["unpublished"], answer["failed"]) == (11, 0)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"ids": []}, "#/ids"),
        ({"ids": [0]}, "#/ids/0"),
        ({"ids": [1, 2**63]}, "#/ids/1"),
        ({"ids": [10**400]}, "#/ids/0"),
        ({"ids": ["1"]}, "#/ids/0"),
        ({"ids": [1.5]}, "#/ids/0"),
        ({"ids": [True]}, "#/ids/0"),
        ({"ids": 1}, "#/ids"),
        ({"all": True}, "#/all"),
    ],
)
async def test_requeue_is_refused_when_its_ids_do_not_fit(service: Service, body: Any, pointer: str) -> None:
    api = await service.api()
    problem = await api.refusal("POST", "/v1/outbox/requeue", body)
    assert (problem["status"], [error["pointer"] for error in problem["errors"]]) == (422, [pointer])


async def test_outbox_query_is_refused_when_it_does_not_fit(service: Service) -> None:
    api = await service.api()
    for query in ("after=-1", f"after={2**63}", "limit=0", "limit=1001", "limit=x", "colour=red"):
        problem = await api.refusal("GET", f"/v1/outbox?{query}")
        assert [error["pointer"] for error in problem["errors"]] == [query.partition("=")[0]]
