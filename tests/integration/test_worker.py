"""How a worker takes, runs, hands back and records."""

import asyncio
import itertools
from datetime import datetime
from typing import Any

import pytest

from aftercommit.core.errors import DatabaseUnavailable
from aftercommit.core.queues import Priority, WorkQueuePattern
from aftercommit.db import claims
from aftercommit.db.claims import ClaimedTask
from aftercommit.server.relay.grouping import LEAST_MESSAGES
from aftercommit.worker import slots
from tests.integration.service import Api, Service

HIGH, MEDIUM, LOW = (WorkQueuePattern("tasks", priority) for priority in Priority)


def only(*work_queues: WorkQueuePattern) -> tuple[tuple[WorkQueuePattern, None], ...]:
    return tuple((work_queue, None) for work_queue in work_queues)


@pytest.fixture
async def api(service: Service) -> Api:
    api = await service.api()
    await service.relay()
    return api


async def end(api: Api, type: str, **fields: Any) -> dict[str, Any]:
    """Submit a task and return it when it is final."""
    task = await api.submit(type, **fields)
    return await api.get(task["id"], wait=30)


async def test_payload_that_does_not_fit_fails_for_good_and_names_the_field(api: Api, service: Service) -> None:
    await service.worker()
    task = await end(api, "test.typed", payload={"customer": "nobody", "amount": 3, "colour": "red"})
    assert (task["status"], task["attempt"]) == ("failed", 1)
    assert task["error"]["type"] == "InvalidPayload"
    assert "customer: " in task["error"]["message"]
    assert "colour: " in task["error"]["message"]


async def test_payload_that_cannot_be_read_fails_alone_among_the_tasks_of_its_claim(api: Api, service: Service) -> None:
    """No API lets such a payload in; somebody wrote it by hand."""
    tasks = await api.submit_batch([{"type": "echo"} for _ in range(10)])
    for task, payload in zip(tasks, ("[1]", "7", '{"n": ' + "9" * 5_000 + "}"), strict=False):
        await service.query(
            "UPDATE aftercommit.tasks SET payload = CAST(:payload AS json) WHERE id = CAST(:id AS uuid)",
            payload=payload,
            id=task["id"],
        )
    await service.worker()
    await service.until("SELECT bool_and(finished_at IS NOT NULL) FROM aftercommit.tasks")
    rows = await service.query(
        "SELECT status, attempt, error ->> 'type' AS error, count(*) FROM aftercommit.tasks GROUP BY 1, 2, 3 ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [("failed", 1, "InvalidPayload", 3), ("succeeded", 1, None, 7)]


async def test_worker_tells_how_long_the_tasks_of_a_work_queue_take(api: Api, service: Service) -> None:
    await service.worker(worker_lease_seconds=2.0, worker_lease_renew_seconds=0.2)
    await end(api, "test.sleep", payload={"seconds": 0.3}, priority="high")
    await service.until(
        "SELECT task_seconds BETWEEN 0.3 AND 3 FROM aftercommit.queue_statistics WHERE work_queue = 'tasks.high'"
    )


@pytest.mark.parametrize(
    ("type", "payload", "error"),
    [
        ("test.fail_for_good", {}, "Fail"),
        ("test.return", {"kind": "set"}, "Fail"),
        ("test.return", {"kind": "nan"}, "Fail"),
        ("test.return", {"kind": "surrogate"}, "Fail"),
        ("test.return", {"kind": "large"}, "Fail"),
        ("test.exit", {}, "SystemExit"),
        ("test.quick", {}, "TimedOut"),
    ],
)
async def test_bad_ending_is_one_visible_failure_and_the_worker_goes_on(
    api: Api, service: Service, type: str, payload: dict[str, Any], error: str
) -> None:
    await service.worker()
    task = await end(api, type, payload=payload, **({} if type == "test.quick" else {"max_retries": 0}))
    assert (task["status"], task["attempt"], task["error"]["type"]) == ("failed", 1, error)
    assert (await end(api, "echo"))["status"] == "succeeded"


async def test_context_reaches_a_sync_handler(api: Api, service: Service) -> None:
    await service.worker()
    task = await end(api, "test.context", tags=["a", "quote:1"], timeout_seconds=30)
    assert task["result"]["id"] == task["id"]
    assert task["result"]["tags"] == ["a", "quote:1"]
    left = datetime.fromisoformat(task["result"]["deadline"]) - datetime.fromisoformat(task["started_at"])
    assert left.total_seconds() == 30


async def test_timed_out_sync_handler_keeps_its_slot_until_its_thread_ends(api: Api, service: Service) -> None:
    await service.worker(worker_concurrency=1)
    slow = await api.submit("test.block", payload={"seconds": 2}, timeout_seconds=0.5, max_retries=0)
    failed = await api.get(slow["id"], wait=30)
    assert failed["error"]["type"] == "TimedOut"
    echo = await end(api, "echo")
    started = datetime.fromisoformat(echo["started_at"]) - datetime.fromisoformat(failed["started_at"])
    assert started.total_seconds() > 1.8


async def test_high_priority_starts_at_once_although_thousands_wait_below(api: Api, service: Service) -> None:
    await service.worker(worker_queues=only(HIGH))
    await service.worker(worker_queues=only(MEDIUM, LOW))
    await api.submit_batch(
        [{"type": "test.sleep", "payload": {"seconds": 0.05}, "priority": "low"} for _ in range(5000)]
    )
    urgent = await api.submit_batch([{"type": "echo", "priority": "high"} for _ in range(100)])
    await service.until("SELECT count(*) = 100 FROM aftercommit.tasks WHERE priority = 'high' AND status = 'succeeded'")
    (before,) = await service.query(
        "SELECT count(*) FROM aftercommit.tasks WHERE priority = 'low'"
        " AND first_started_at < (SELECT max(first_started_at) FROM aftercommit.tasks WHERE priority = 'high')"
    )
    assert len(urgent) == 100
    assert before[0] < 1000  # of 5000
    assert (await service.query("SELECT count(*) > 1000 FROM aftercommit.tasks WHERE finished_at IS NULL"))[0][0]


async def test_weights_share_the_slots_when_all_queues_have_work(api: Api, service: Service) -> None:
    tasks = [{"type": "test.sleep", "priority": priority} for priority in ("low", "medium", "high") for _ in range(300)]
    await api.submit_batch(tasks)
    await service.until("SELECT count(*) = 0 FROM aftercommit.outbox_rows")
    await service.worker(worker_queues=((HIGH, 6), (MEDIUM, 3), (LOW, 1)), worker_concurrency=1, worker_prefetch=300)
    await service.until_idle()
    # Among the first 300 starts each queue has its share; the very first may come before all lanes are filled.
    rows = await service.query(
        "SELECT priority, count(*) FROM (SELECT priority"
        " FROM aftercommit.tasks ORDER BY first_started_at LIMIT 300) AS first"
        " GROUP BY priority"
    )
    shares = dict(tuple(row) for row in rows)
    assert shares["high"] == pytest.approx(180, abs=25)
    assert shares["medium"] == pytest.approx(90, abs=25)
    assert shares["low"] == pytest.approx(30, abs=15)


async def test_full_worker_hands_back_what_an_idle_one_can_run(api: Api, service: Service) -> None:
    """One worker's slots are all taken by long tasks; what it holds beyond them goes back within seconds."""
    await service.worker(worker_concurrency=2, worker_hand_back_seconds=1.0, worker_shutdown_seconds=0.5)
    await api.submit_batch([{"type": "test.sleep", "payload": {"seconds": 600}} for _ in range(2)])
    await service.until("SELECT count(*) = 2 FROM aftercommit.tasks WHERE status = 'running'")
    await api.submit_batch([{"type": "echo"} for _ in range(50)])
    await service.until("SELECT count(*) = 0 FROM aftercommit.outbox_rows")
    await service.worker(worker_concurrency=2)
    await service.until("SELECT count(*) = 50 FROM aftercommit.tasks WHERE status = 'succeeded'", seconds=6)
    await finish_long_tasks(api, service)


async def finish_long_tasks(api: Api, service: Service) -> None:
    """Record their outcome by hand, so that the worker's own is refused and the test ends soon."""
    for row in await service.query("SELECT id FROM aftercommit.tasks WHERE status = 'running'"):
        status, task = await api.call("POST", f"/v1/tasks/{row.id}/complete", {"result": None})
        assert (status, task["status"]) == (200, "succeeded")


async def test_stopping_worker_lets_tasks_finish_and_releases_the_rest_uncharged(api: Api, service: Service) -> None:
    worker = await service.worker(worker_shutdown_seconds=1.0, worker_concurrency=2)
    short = await api.submit("test.sleep", payload={"seconds": 0.5})
    long = await api.submit("test.sleep", payload={"seconds": 3}, max_retries=0)
    waiting = await api.submit("echo")
    await service.until("SELECT count(*) = 2 FROM aftercommit.tasks WHERE status = 'running'")
    await worker.stop()
    assert (await api.get(short["id"]))["status"] == "succeeded"
    released = await api.get(long["id"])
    assert (released["status"], released["attempt"]) == ("queued", 1)

    await service.worker()
    assert (await api.get(waiting["id"], wait=30))["status"] == "succeeded"
    done = await api.get(long["id"], wait=30)
    assert (done["status"], done["attempt"]) == ("succeeded", 2)
    assert [attempt["outcome"] for attempt in await api.attempts(long["id"])] == ["released", "succeeded"]


async def test_handler_that_cleans_up_for_longer_than_a_second_at_shutdown_is_not_charged(
    api: Api, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "CLEANUP_PART", 0.9)
    worker = await service.worker(worker_shutdown_seconds=5.0)
    await api.submit("test.clean_up", payload={"seconds": 2}, max_retries=0)
    await service.until("SELECT status = 'running' FROM aftercommit.tasks")
    await worker.stop()
    (row,) = await service.query("SELECT status, attempt, uncharged FROM aftercommit.tasks")
    assert tuple(row) == ("queued", 1, 1)


async def test_outcome_of_a_task_completed_by_hand_is_refused(api: Api, service: Service) -> None:
    await service.worker()
    task = await api.submit("test.sleep", payload={"seconds": 0.5})
    await service.until("SELECT status = 'running' FROM aftercommit.tasks")
    status, completed = await api.call(
        "POST", f"/v1/tasks/{task['id']}/complete", {"error": {"type": "GivenUp", "message": "by hand"}}
    )
    assert (status, completed["status"]) == (200, "failed")
    # Another task that starts and ends later shows that the worker recorded meanwhile.
    await end(api, "test.sleep", payload={"seconds": 0.7})
    assert (await api.get(task["id"]))["error"]["message"] == "by hand"


async def test_second_message_for_a_dispatch_is_stale(api: Api, service: Service) -> None:
    worker = await service.worker()
    task = await end(api, "echo")
    await worker.stop()
    await service.query(
        "INSERT INTO aftercommit.outbox_rows (work_queue, task_ids, dispatches)"
        " SELECT 'tasks.medium', ARRAY[id], ARRAY[1] FROM aftercommit.tasks, generate_series(1, 3)"
    )
    await service.worker()
    await end(api, "echo")
    assert (await api.get(task["id"]))["attempt"] == 1
    await empty(api)


async def test_claim_whose_answer_was_lost_is_asked_again_although_its_messages_went_back(
    api: Api, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, claim = itertools.count(), claims.claim

    async def answer_half(*arguments: Any, **options: Any) -> list[ClaimedTask]:
        claimed = await claim(*arguments, **options)
        if next(calls) % 2 == 0:
            raise DatabaseUnavailable("the answer was lost")
        return claimed

    monkeypatch.setattr(claims, "claim", answer_half)
    for _ in range(2):
        await service.worker(worker_hand_back_seconds=0.02)
    for _ in range(20):
        await api.submit("echo")
    await service.until_idle(seconds=20)
    (row,) = await service.query("SELECT max(attempt), count(*) FROM aftercommit.tasks WHERE status = 'succeeded'")
    assert tuple(row) == (1, 20)
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.claims)", seconds=5)


async def empty(api: Api) -> None:
    """Wait until the broker's work queues hold nothing."""
    async with asyncio.timeout(20):
        while any(
            queue["ready"] or queue["unacknowledged"] for queue in (await api.call("GET", "/v1/queues"))[1]["queues"]
        ):
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "body", [b"hello", b'{"v": 2}', b'{"v": 1, "tasks": []}', b'{"v":1,"tasks":[{"id":7}]}', b"x" * 300_000]
)
async def test_malformed_message_is_dead_lettered_with_its_reason(api: Api, service: Service, body: bytes) -> None:
    await service.worker()
    connection = await service.declare()
    channel = await connection.open_channel(publisher_confirms=True)
    underlay = await channel.get_underlay_channel()
    await underlay.basic_publish(body, routing_key="tasks.high")
    assert (await end(api, "echo", priority="high"))["status"] == "succeeded"
    await service.until("SELECT count(*) = 0 FROM aftercommit.outbox_rows")
    dead = await channel.get_queue("tasks.dlq")
    letter = await dead.get(timeout=10, fail=False)
    while letter is None:
        letter = await dead.get(timeout=10, fail=False)
    assert letter.body == body
    assert letter.headers["x-aftercommit-reason"]
    assert letter.headers["x-aftercommit-work-queue"] == "tasks.high"
    await letter.ack()


async def test_retries_keep_the_delay_of_their_retry_queue(api: Api, service: Service) -> None:
    await service.worker()
    task = await end(api, "test.fail")
    attempts = await api.attempts(task["id"])
    for (earlier, later), delay in zip(itertools.pairwise(attempts), (1, 2), strict=True):
        pause = datetime.fromisoformat(later["started_at"]) - datetime.fromisoformat(earlier["finished_at"])
        assert delay * 0.95 <= pause.total_seconds() <= delay * 1.2 + 0.5


REFUSE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.status = 'succeeded' THEN
            RAISE EXCEPTION 'this value is not taken' USING ERRCODE = 'data_exception';
        ELSIF NEW.status = 'failed' AND nextval('outages') <= 2 THEN
            RAISE EXCEPTION 'the server goes away' USING ERRCODE = 'admin_shutdown';
        END IF;
        RETURN NEW;
    END $$
"""


async def test_outcome_that_cannot_be_stored_becomes_a_failure_and_costs_the_others_nothing(
    api: Api, service: Service
) -> None:
    """An outage comes in between, and the claim stays until the last of its tasks has ended."""
    await service.query("CREATE SEQUENCE outages")
    await service.query(REFUSE)
    await service.query(
        "CREATE TRIGGER refuse BEFORE UPDATE ON aftercommit.tasks FOR EACH ROW WHEN (NEW.tags = '{refused}')"
        " EXECUTE FUNCTION refuse()"
    )
    # Short tasks share a message, and so a claim, when enough of them wait.
    await service.query(
        "INSERT INTO aftercommit.queue_statistics (work_queue, passed_at, task_seconds)"
        " VALUES ('tasks.high', now(), 0.001)"
    )
    short: dict[str, Any] = {"type": "test.sleep", "priority": "high"}
    slow, good, refused, *_ = await api.submit_batch(
        [short | {"payload": {"seconds": 4}}, short, short | {"tags": ["refused"]}, *[short] * 3 * LEAST_MESSAGES]
    )
    await service.worker()
    failed = await api.get(refused["id"], wait=30)
    assert (failed["status"], failed["error"]["type"]) == ("failed", "Unstorable")
    assert (await api.get(good["id"]))["status"] == "succeeded"
    assert (await api.get(slow["id"]))["status"] == "running"
    (claim,) = await service.query("SELECT task_ids FROM aftercommit.claims")
    assert {slow["id"], good["id"], refused["id"]} <= set(map(str, claim.task_ids))
    assert (await api.get(slow["id"], wait=30))["status"] == "succeeded"
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.claims)")
