"""Retention: finished tasks go when their time is over, whatever else is under way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Protocol
from uuid import UUID

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from aftercommit.core.settings import Settings
from aftercommit.core.states import FINAL, UNFINISHED, Status
from aftercommit.db import retention
from aftercommit.db.database import FRESH_PLANS, DatabaseConnection, Fetch
from aftercommit.db.retention import Kind
from aftercommit.server.maintenance import task_pruner
from aftercommit.server.maintenance.task_pruner import TaskPruner
from tests.integration.rows import add_tasks, ids, statuses
from tests.integration.service import Service

DAY = 86_400.0
INTERVAL_SECONDS = 7.0


class MakePruner(Protocol):
    def __call__(self, **changes: Any) -> TaskPruner: ...


@pytest.fixture
async def make_pruner(settings: Settings) -> AsyncIterator[MakePruner]:
    """Makes pruners, each on a connection of its own like those of two processes."""
    async with AsyncExitStack() as stack:
        made: list[DatabaseConnection] = []

        def make(**changes: Any) -> TaskPruner:
            connection = DatabaseConnection(settings, application="test", planning=FRESH_PLANS)
            made.append(connection)
            stack.push_async_callback(connection.close)
            options: dict[str, Any] = {
                "retention_seconds": {Kind.SUCCEEDED: 7 * DAY, Kind.UNSUCCESSFUL: 90 * DAY},
                "tasks_per_second": 100.0,
                "interval_seconds": INTERVAL_SECONDS,
                "summary_seconds": 0.0,
            }
            return TaskPruner(connection, **options | changes)

        yield make


async def run_to_the_end(pruner: TaskPruner) -> list[float]:
    """The pauses that it asked for before its walks were at their end."""
    pauses = []
    async with asyncio.timeout(20):
        while (pause := await pruner.run_once()) != INTERVAL_SECONDS:
            pauses.append(pause)
    return pauses


async def left(service: Service) -> set[UUID]:
    return set(await statuses(service))


@pytest.mark.parametrize("status", FINAL)
async def test_finished_task_goes_with_its_attempts_when_its_time_is_over(
    status: Status, service: Service, make_pruner: MakePruner
) -> None:
    days = 7 if status is Status.SUCCEEDED else 90
    (old,), (young,) = ids(1, seconds_ago=(days + 1) * DAY), ids(1, seconds_ago=(days - 1) * DAY)
    await add_tasks(service, [old], status, finished_seconds_ago=(days + 1) * DAY)
    await add_tasks(service, [young], status, finished_seconds_ago=(days - 1) * DAY)
    await service.query(
        "INSERT INTO aftercommit.attempts (task_id, attempt, outcome) SELECT id, 1, 'retried' FROM aftercommit.tasks"
    )
    await run_to_the_end(make_pruner())
    assert await left(service) == {young}
    assert [row.task_id for row in await service.query("SELECT task_id FROM aftercommit.attempts")] == [young]


async def test_unfinished_and_held_tasks_stay(service: Service, make_pruner: MakePruner) -> None:
    *unfinished, held = ids(1 + len(UNFINISHED), seconds_ago=1_000 * DAY)
    for task_id, status in zip(unfinished, UNFINISHED, strict=True):
        await add_tasks(service, [task_id], status, worker="worker", sent_seconds_ago=1_000 * DAY)
    await add_tasks(service, [held], Status.SUCCEEDED, tags=["a", "hold"], finished_seconds_ago=1_000 * DAY)
    await run_to_the_end(make_pruner())
    assert await left(service) == {*unfinished, held}


async def test_nothing_goes_when_the_retention_is_0(service: Service, make_pruner: MakePruner) -> None:
    succeeded, failed = ids(2, seconds_ago=1_000 * DAY)
    await add_tasks(service, [succeeded], Status.SUCCEEDED, finished_seconds_ago=1_000 * DAY)
    await add_tasks(service, [failed], Status.FAILED, finished_seconds_ago=1_000 * DAY)
    await run_to_the_end(make_pruner(retention_seconds={Kind.SUCCEEDED: 0.0, Kind.UNSUCCESSFUL: 0.0}))
    assert await left(service) == {succeeded, failed}
    await run_to_the_end(make_pruner(retention_seconds={Kind.SUCCEEDED: 0.0, Kind.UNSUCCESSFUL: 0.5}))
    assert await left(service) == {succeeded}


async def test_rate_is_kept_and_told(
    service: Service, make_pruner: MakePruner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_pruner, "BATCH", 50)
    await add_tasks(service, ids(120, seconds_ago=8 * DAY), Status.SUCCEEDED, finished_seconds_ago=8 * DAY)
    with capture_logs() as logs:
        pauses = await run_to_the_end(make_pruner(tasks_per_second=100.0))
    assert pauses == [0.5, 0.5]
    assert await left(service) == set()
    told = [line for line in logs if line["event"] == "retention_summary"]
    assert sum(line["succeeded"] for line in told) == 120
    assert told[0]["behind_seconds"] > 0
    assert told[-1]["behind_seconds"] == 0


async def test_one_of_several_deletes_and_another_takes_over(service: Service, make_pruner: MakePruner) -> None:
    first, second = make_pruner(), make_pruner()
    await run_to_the_end(first)
    (task_id,) = ids(1, seconds_ago=8 * DAY)
    await add_tasks(service, [task_id], Status.SUCCEEDED, finished_seconds_ago=8 * DAY)
    assert await second.run_once() == INTERVAL_SECONDS
    assert await left(service) == {task_id}
    await service.query(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    await service.until(
        "SELECT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
    )
    await run_to_the_end(second)
    assert await left(service) == set()


async def test_locked_task_is_left_for_later_and_holds_up_nobody(service: Service, make_pruner: MakePruner) -> None:
    locked, *others = ids(10, seconds_ago=8 * DAY)
    await add_tasks(service, [locked, *others], Status.SUCCEEDED, finished_seconds_ago=8 * DAY)
    async with service.engine.begin() as elsewhere:
        await elsewhere.execute(text(f"SELECT FROM aftercommit.tasks WHERE id = '{locked}' FOR UPDATE"))
        await run_to_the_end(make_pruner())
        assert await left(service) == {locked}


async def test_task_that_finished_long_after_its_id_was_made_goes_with_the_next_full_pass(
    service: Service, make_pruner: MakePruner, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruner = make_pruner()
    marker, late = ids(1, seconds_ago=10 * DAY), ids(1, seconds_ago=20 * DAY)
    await add_tasks(service, marker, Status.SUCCEEDED, finished_seconds_ago=10 * DAY)
    await add_tasks(service, late, Status.RETRYING)
    await run_to_the_end(pruner)
    # It ends, and a week goes by.
    await service.query("UPDATE aftercommit.tasks SET status = 'succeeded', finished_at = now() - interval '8 days'")
    await run_to_the_end(pruner)
    assert await left(service) == set(late)
    monkeypatch.setattr(task_pruner, "FULL_PASS_SECONDS", 0.0)
    await run_to_the_end(pruner)
    assert await left(service) == set()


async def test_walk_does_not_read_again_what_it_deleted(
    service: Service, make_pruner: MakePruner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction elsewhere may keep the dead entries; a walk that began at the first id would read them all."""
    pruner = make_pruner()
    deleted = ids(700, seconds_ago=9 * DAY)
    await add_tasks(service, deleted, Status.SUCCEEDED, finished_seconds_ago=9 * DAY)
    await run_to_the_end(pruner)
    starts: list[UUID] = []
    find = retention.find

    async def note(fetch: Fetch, kind: Kind, *, after: UUID, **options: Any) -> retention.Stretch:
        if kind is Kind.SUCCEEDED:
            starts.append(after)
        return await find(fetch, kind, after=after, **options)

    monkeypatch.setattr(retention, "find", note)
    later = ids(1, seconds_ago=8 * DAY)
    await add_tasks(service, later, Status.SUCCEEDED, finished_seconds_ago=8 * DAY)
    await run_to_the_end(pruner)
    assert await left(service) == set()
    await run_to_the_end(pruner)
    assert starts == [deleted[-1], later[-1]]


async def test_message_of_a_deleted_task_is_stale(service: Service, make_pruner: MakePruner) -> None:
    deleted = ids(2, seconds_ago=100 * DAY)
    await add_tasks(service, deleted[:1], Status.SUCCEEDED, finished_seconds_ago=100 * DAY)
    await add_tasks(service, deleted[1:], Status.FAILED, finished_seconds_ago=100 * DAY)
    await service.query(
        "INSERT INTO aftercommit.outbox_rows (work_queue, task_ids, dispatches, dead_reason)"
        " SELECT 'tasks.medium', ARRAY[id], ARRAY[1], CASE status WHEN 'failed' THEN 'no luck' END"
        " FROM aftercommit.tasks"
    )
    await run_to_the_end(make_pruner())
    assert await left(service) == set()
    await service.relay()
    await service.worker()
    await service.maintenance()
    api = await service.api()
    assert (await api.get((await api.submit("echo"))["id"], wait=30))["status"] == "succeeded"
    await service.until_idle(seconds=20)
    assert (await api.call("GET", "/v1/queues"))[1]["dead_letters"] == 1
