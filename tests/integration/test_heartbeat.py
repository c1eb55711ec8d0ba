"""Leases: kept while a handler blocks the loop, and replaced when they are lost."""

import pytest

from aftercommit.core.settings import Settings
from tests.integration.service import Service


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"worker_lease_seconds": 3.0, "worker_lease_renew_seconds": 0.5})


async def test_lease_is_kept_while_a_handler_blocks_the_loop(service: Service) -> None:
    # The handler blocks this test's own loop too, so the database alone can tell.
    task_id = "00000000-0000-7000-8000-000000000001"
    worker = await service.worker()
    await service.relay()
    await service.until("SELECT count(*) = 1 FROM aftercommit.workers")
    await service.query(
        "WITH t AS (INSERT INTO aftercommit.tasks (id, type, queue, priority, status, payload)"
        f" VALUES ('{task_id}', 'test.hog', 'tasks', 'high', 'queued', '{{\"seconds\": 4}}'))"
        f" INSERT INTO aftercommit.outbox_rows (work_queue, task_ids, dispatches)"
        f" VALUES ('tasks.high', ARRAY['{task_id}'::uuid], ARRAY[1])"
    )
    await service.until("SELECT status = 'succeeded' FROM aftercommit.tasks")
    (row,) = await service.query("SELECT count(*), min(lease_until) > now() FROM aftercommit.workers")
    assert tuple(row) == (1, True)
    await worker.stop()
    assert await service.query("SELECT name FROM aftercommit.workers WHERE lease_until > now()") == []


async def test_worker_that_lost_its_lease_releases_its_tasks_and_goes_on_under_a_new_name(service: Service) -> None:
    api = await service.api()
    await service.relay()
    await service.worker()
    task = await api.submit("test.sleep", payload={"seconds": 2}, max_retries=0)
    await service.until("SELECT status = 'running' FROM aftercommit.tasks")
    (before,) = await service.query("SELECT worker FROM aftercommit.tasks")
    await service.query("DELETE FROM aftercommit.workers WHERE name = :name", name=before.worker)
    done = await api.get(task["id"], wait=30)
    assert [attempt["outcome"] for attempt in await api.attempts(task["id"])] == ["released", "succeeded"]
    assert done["worker"] != before.worker


async def test_row_tells_what_the_worker_resolved_for_its_handlers(service: Service) -> None:
    await service.worker(max_retries=7, task_timeout_seconds=42.0, worker_hand_back_seconds=1.5)
    await service.until("SELECT count(*) = 1 FROM aftercommit.workers")
    (row,) = await service.query(
        "SELECT handlers -> 'test.quick' AS own, handlers -> 'test.sleep' AS by_settings,"
        " max_retries, timeout_seconds, lease_seconds, hand_back_seconds FROM aftercommit.workers"
    )
    assert row.own == {"max_retries": 0, "timeout_seconds": 0.2}
    assert row.by_settings == {"max_retries": 7, "timeout_seconds": 42.0}
    assert tuple(row)[2:] == (7, 42.0, 3.0, 1.5)
