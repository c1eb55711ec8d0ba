"""What handlers tell of their progress."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from aftercommit.core.states import Status
from aftercommit.db import progress, retention
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.progress import Progress
from aftercommit.db.retention import Kind
from tests.integration.rows import add_tasks, ids
from tests.integration.service import Api, Service


@pytest.fixture
async def api(service: Service) -> Api:
    await service.maintenance()
    await service.relay()
    await service.worker()
    return await service.api()


@pytest.mark.parametrize("type", ["test.progress", "test.thread_progress", "test.isolated_progress"])
async def test_progress_shows_while_the_task_runs_and_its_last_when_it_has_ended(
    api: Api, service: Service, type: str
) -> None:
    task = await api.submit(type, payload={"seconds": 1.5})
    assert task["progress"] is None
    await service.until("SELECT count(*) = 1 FROM aftercommit.progress", seconds=40)
    shown = await api.get(task["id"])
    assert shown["status"] == "running"
    told = {name: shown["progress"][name] for name in ("fraction", "message", "attempt")}
    assert told == {"fraction": 0.25, "message": "page 1 of 4", "attempt": 1}
    assert shown["progress"]["reported_at"] > shown["started_at"]
    assert (await api.get(task["id"], wait=40))["status"] == "succeeded"
    await service.until("SELECT fraction = 1 FROM aftercommit.progress", seconds=5)
    last = (await api.get(task["id"]))["progress"]
    assert last["attempt"] == (2 if type == "test.progress" else 1)
    _, page = await api.call("GET", "/v1/tasks")
    assert "progress" not in page["tasks"][0]


async def test_nothing_is_written_for_a_task_that_tells_nothing_and_little_for_one_that_tells_a_lot(
    api: Api, sent: list[str]
) -> None:
    plain = await api.submit("test.context")
    await api.get(plain["id"], wait=30)
    assert not any("aftercommit.progress AS p" in statement for statement in sent)
    busy = await api.submit("test.progress", payload={"seconds": 0})
    await api.get(busy["id"], wait=30)
    await asyncio.sleep(1)
    assert 1 <= sum("aftercommit.progress AS p" in statement for statement in sent) <= 4


async def test_what_an_old_attempt_tells_does_not_cover_a_newer_one_s(service: Service) -> None:
    task_id, gone = ids(2)
    await add_tasks(service, [task_id], Status.RUNNING, worker="worker")
    await service.query("UPDATE aftercommit.tasks SET attempt = 2")
    async with DatabaseConnection(service.settings, application="test") as connection:

        async def shown_after(*told: tuple[UUID, int, float]) -> list[tuple[int, float]]:
            await progress.write(connection.fetch, [Progress(*each, None) for each in told])
            rows = await service.query("SELECT attempt, fraction FROM aftercommit.progress")
            return [tuple(row) for row in rows]

        assert await shown_after((task_id, 1, 0.9), (gone, 1, 0.9)) == []
        assert await shown_after((task_id, 2, 0.2)) == [(2, 0.2)]
        assert await shown_after((task_id, 1, 0.9)) == [(2, 0.2)]
        assert await shown_after((task_id, 2, 0.1)) == [(2, 0.1)]


async def test_progress_goes_with_its_task(service: Service) -> None:
    over, kept = ids(2)
    await add_tasks(service, [over], Status.SUCCEEDED, finished_seconds_ago=timedelta(hours=1).total_seconds())
    await add_tasks(service, [kept], Status.SUCCEEDED)
    async with DatabaseConnection(service.settings, application="test") as connection:
        await progress.write(connection.fetch, [Progress(task_id, 1, 1, None) for task_id in (over, kept)])
        assert await retention.delete(connection.fetch, Kind.SUCCEEDED, [over, kept], retention_seconds=60) == 1
    assert [row.task_id for row in await service.query("SELECT task_id FROM aftercommit.progress")] == [kept]
