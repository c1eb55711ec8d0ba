"""The main job, end to end. Read from top to bottom it is a tutorial of the service."""

from tests.integration.service import Service


async def test_task_committed_through_the_api_runs_and_its_result_is_kept(service: Service) -> None:
    api = await service.api()
    # Nothing but Postgres is needed to take a task: it is committed before anything else runs.
    task = await api.submit("echo", payload={"hello": "world"}, priority="high", tags=["greeting"])
    assert task["status"] == "queued"
    assert (await api.get(task["id"]))["attempt"] == 0

    # The relay brings the outbox row to RabbitMQ, a worker claims, runs and records.
    await service.relay()
    await service.worker()
    done = await api.get(task["id"], wait=30)

    assert done["status"] == "succeeded"
    assert done["result"] == {"hello": "world"}
    assert done["attempt"] == 1
    assert done["created_at"] <= done["first_started_at"] <= done["finished_at"]
    assert [attempt["outcome"] for attempt in await api.attempts(task["id"])] == ["succeeded"]
    assert await service.query("SELECT id FROM aftercommit.outbox_rows") == []


async def test_failing_task_passes_the_retry_queues_and_ends_as_a_dead_letter_that_can_be_sent_again(
    service: Service,
) -> None:
    api = await service.api()
    await service.relay()
    await service.worker()
    task = await api.submit("test.fail", payload={"reason": "the mail server said no"}, priority="low")
    failed = await api.get(task["id"], wait=30)

    assert failed["status"] == "failed"
    assert failed["error"]["type"] == "RuntimeError"
    assert failed["error"]["message"] == "the mail server said no"
    assert "handlers.py" in failed["error"]["traceback"]
    attempts = await api.attempts(task["id"])
    assert [attempt["outcome"] for attempt in attempts] == ["retried", "retried", "failed"]

    # It stands in the dead-letter queue and in the listing of failed tasks.
    await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)")
    _, queues = await api.call("GET", "/v1/queues")
    assert queues["dead_letters"] == 1
    _, page = await api.call("GET", "/v1/tasks?status=failed")
    assert [found["id"] for found in page["tasks"]] == [task["id"]]

    # An operator sends it out again: it gets all its retries, and its history goes on.
    status, again = await api.call("POST", f"/v1/tasks/{task['id']}/retry")
    assert (status, again["status"], again["error"]) == (200, "queued", None)
    await api.get(task["id"], wait=30)
    assert [attempt["attempt"] for attempt in await api.attempts(task["id"])] == [1, 2, 3, 4, 5, 6]


async def test_retry_with_its_own_delay_goes_through_the_scheduler(service: Service) -> None:
    api = await service.api()
    await service.relay()
    await service.worker()
    await service.maintenance()
    task = await api.submit("test.fail_until", payload={"attempt": 2, "after": 0.7})
    done = await api.get(task["id"], wait=30)
    assert (done["status"], done["result"]) == ("succeeded", 2)
    first, second = await api.attempts(task["id"])
    assert first["error"]["message"] == "not yet"
    assert first["finished_at"] < second["started_at"]
