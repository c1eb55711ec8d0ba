"""Delays of a task's own and of its handler's, and snoozes."""

from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from aftercommit.core import failures
from aftercommit.core.outcomes import Outcome
from aftercommit.core.retries import Delay
from aftercommit.core.states import Event, Status
from aftercommit.db import record
from aftercommit.db.database import DatabaseConnection
from tests.integration.rows import add_tasks, ids
from tests.integration.service import Api, Service


@pytest.fixture
async def api(service: Service) -> Api:
    await service.maintenance()
    await service.relay()
    await service.worker()
    return await service.api()


async def waits(api: Api, task_id: str) -> list[float]:
    """The seconds from the end of each attempt to the start of the next."""
    attempts = await api.attempts(task_id)
    return [
        (datetime.fromisoformat(later["started_at"]) - datetime.fromisoformat(earlier["finished_at"])).total_seconds()
        for earlier, later in pairwise(attempts)
    ]


async def test_task_s_own_delays_are_kept_by_a_retry_queue_or_by_the_scheduler(api: Api, sent: list[str]) -> None:
    """Of 1 and 2 seconds there are retry queues, of 0.5 there is none."""
    task = await api.submit("test.fail", max_retries=2, retry={"delays_seconds": [2, 0.5]})
    assert task["retry"] == {"delays_seconds": [2, 0.5]}
    failed = await api.get(task["id"], wait=30)
    assert (failed["status"], failed["attempt"], failed["retry"]) == ("failed", 3, task["retry"])
    by_broker, by_scheduler = await waits(api, task["id"])
    assert 1.9 < by_broker < 10
    assert 0.4 < by_scheduler < 5


async def test_retry_queue_keeps_the_own_delay_of_which_there_is_one(service: Service) -> None:
    await service.worker()
    await service.relay()
    api = await service.api()
    for seconds, enqueued in ((3_600, False), (2, True)):
        task = await api.submit("test.fail", retry={"delays_seconds": [seconds]})
        await service.until(f"SELECT status = 'retrying' FROM aftercommit.tasks WHERE id = '{task['id']}'")
        (row,) = await service.query(f"SELECT enqueued FROM aftercommit.tasks WHERE id = '{task['id']}'")
        assert row.enqueued is enqueued


async def test_handler_s_backoff_grows(api: Api) -> None:
    task = await api.submit("test.backoff")
    assert (await api.get(task["id"], wait=30))["attempt"] == 3
    first, second = await waits(api, task["id"])
    assert 0.35 < first < 5
    assert 0.75 < second < 5


@pytest.mark.parametrize(("kind", "attempts"), [("connection", 3), ("value", 1)])
async def test_handler_says_which_errors_are_retried(api: Api, kind: str, attempts: int) -> None:
    task = await api.submit(
        "test.retry_on", payload={"kind": kind}, max_retries=2, retry={"backoff": {"initial_seconds": 0.1}}
    )
    failed = await api.get(task["id"], wait=30)
    assert (failed["status"], failed["attempt"]) == ("failed", attempts)


@pytest.mark.parametrize(("type", "until"), [("test.snooze", 3), ("test.isolated_snooze", 2)])
async def test_snooze_is_not_charged_and_shows(api: Api, type: str, until: int) -> None:
    payload = {"until": until} if type == "test.snooze" else {}
    task = await api.submit(type, payload=payload)
    done = await api.get(task["id"], wait=40)
    assert (done["status"], done["result"], done["attempt"]) == ("succeeded", until, until)
    *snoozes, last = await api.attempts(task["id"])
    assert [attempt["outcome"] for attempt in snoozes] == ["snoozed"] * (until - 1)
    assert snoozes[0]["error"] == {"type": "Snooze", "message": "not yet", "traceback": None}
    assert last["outcome"] == "succeeded"
    assert all(wait > 0.9 for wait in await waits(api, task["id"]))


async def test_history_of_a_task_that_snoozes_for_ever_is_bounded(service: Service) -> None:
    """And other attempts among its snoozes are kept."""
    (task_id,) = ids(1)
    await add_tasks(service, [task_id], Status.RUNNING, worker="worker")
    endings: dict[int, Any] = {3: Event.RETRY, 4: Event.RELEASE}
    async with DatabaseConnection(service.settings, application="test") as connection:
        for attempt in range(1, 251):
            await service.query("UPDATE aftercommit.tasks SET status = 'running', attempt = :attempt", attempt=attempt)
            ending = endings.get(attempt, Event.SNOOZE)
            outcome = Outcome(
                task_id=task_id,
                attempt=attempt,
                worker="worker",
                ending=ending,
                error=failures.dump("Test", "not yet"),
                delay=None if ending is Event.RELEASE else Delay(7, by_broker=False),
            )
            assert len(await record.record(connection.fetch, [outcome])) == 1
    (row,) = await service.query("SELECT uncharged FROM aftercommit.tasks")
    assert row.uncharged == 249
    rows = await service.query("SELECT attempt, outcome FROM aftercommit.attempts ORDER BY attempt")
    assert [(row.attempt, row.outcome) for row in rows] == [
        (3, "retried"),
        (4, "released"),
        *((attempt, "snoozed") for attempt in range(151, 251)),
    ]


async def test_attempt_whose_process_died_is_retried_whatever_its_handler_says(api: Api) -> None:
    task = await api.submit("test.isolated_exit", retry={"delays_seconds": [0]}, max_retries=1)
    failed = await api.get(task["id"], wait=40)
    assert (failed["status"], failed["attempt"], failed["error"]["type"]) == ("failed", 2, "ProcessDied")
