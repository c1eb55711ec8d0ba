"""Results: their limit, and those that are deleted before their tasks."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from aftercommit.core.settings import Settings
from aftercommit.core.states import Status
from aftercommit.db.database import Database
from aftercommit.server.maintenance import result_pruner
from aftercommit.server.maintenance.result_pruner import ResultPruner
from tests.integration.rows import add_tasks, ids
from tests.integration.service import Service

INTERVAL_SECONDS = 7.0
LEFT = "SELECT id FROM aftercommit.tasks WHERE result IS NOT NULL ORDER BY id"


@pytest.fixture
async def pruner(settings: Settings) -> AsyncIterator[ResultPruner]:
    database = Database(settings, application="test")
    yield ResultPruner(database, tasks_per_second=1_000, interval_seconds=INTERVAL_SECONDS)
    await database.close()


async def test_result_is_deleted_after_its_time_and_the_task_stays(service: Service) -> None:
    await service.maintenance(prune_interval_seconds=0.1)
    await service.relay()
    await service.worker()
    api = await service.api()
    short, long, plain = await api.submit_batch(
        [
            {"type": "echo", "payload": {"a": 1}, "result_ttl_seconds": 1},
            {"type": "echo", "payload": {"a": 1}, "result_ttl_seconds": 3600},
            {"type": "echo", "payload": {"a": 1}},
        ]
    )
    assert [task["result_ttl_seconds"] for task in (short, long, plain)] == [1, 3600, None]
    done = await api.get(short["id"], wait=30)
    assert done["result"] == {"a": 1}
    await service.until(f"SELECT result IS NULL FROM aftercommit.tasks WHERE id = '{short['id']}'")
    assert await api.get(short["id"]) == done | {"result": None}
    assert done["result_expires_at"] > done["finished_at"]
    others = [await api.get(task["id"], wait=30) for task in (long, plain)]
    assert [task["result"] for task in others] == [{"a": 1}] * 2
    assert [task["result_expires_at"] is None for task in others] == [False, True]


async def test_round_goes_through_all_results_that_are_due_and_passes_over_locked_tasks(
    service: Service, pruner: ResultPruner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_pruner, "BATCH", 10)
    locked, *others = ids(30, seconds_ago=60)
    (young,) = ids(1)
    await add_tasks(service, [locked, *others, young], Status.SUCCEEDED)
    await service.query(
        "UPDATE aftercommit.tasks SET result_expires_at = now() + interval '1 hour' * CASE WHEN id = :young THEN 1"
        " ELSE -1 END",
        young=young,
    )
    async with service.engine.begin() as elsewhere:
        await elsewhere.execute(text(f"SELECT id FROM aftercommit.tasks WHERE id = '{locked}' FOR UPDATE"))
        async with asyncio.timeout(10):
            assert [await pruner.run_once() for _ in range(3)] == [0.01, 0.01, INTERVAL_SECONDS]
        assert [row.id for row in await service.query(LEFT)] == [locked, young]
    await pruner.run_once()
    assert [row.id for row in await service.query(LEFT)] == [young]


@pytest.mark.parametrize(
    ("type", "payload"), [("test.return", {"kind": "large"}), ("test.isolated_return", {"size": 2_000_000})]
)
async def test_result_over_the_limit_fails_the_task_and_says_which_setting(
    service: Service, type: str, payload: dict[str, object]
) -> None:
    await service.relay()
    await service.worker()
    api = await service.api()
    task = await api.submit(type, payload=payload)
    failed = await api.get(task["id"], wait=40)
    assert (failed["status"], failed["attempt"], failed["result"]) == ("failed", 1, None)
    assert "bytes of JSON; WORKER_MAX_RESULT_BYTES allows 1048576" in failed["error"]["message"]
