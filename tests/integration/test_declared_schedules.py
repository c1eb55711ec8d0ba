"""Schedules that stand beside handlers: a worker declares them when it starts."""

import asyncio
from typing import Any

import structlog
from structlog.typing import EventDict

from aftercommit import Every, Handler, task
from aftercommit.db.database import DatabaseConnection
from aftercommit.runtime.notifier import Notifier
from aftercommit.worker.declared_schedules import DeclaredSchedules
from tests.integration.service import Service

MODULE = "tests.integration.scheduled_handlers"
DEFINITION = "SELECT name, next_tick, updated_at, declared_in FROM aftercommit.schedules ORDER BY name"


def a_handler(name: str = "recurring", **options: Any) -> Handler:
    def run() -> None: ...

    return task("test.recurring", schedule=Every(**{"seconds": 60, "name": name, **options}))(run)


async def declare(service: Service, *handlers: Handler) -> list[EventDict]:
    """What a worker with these handlers does; what it logs."""
    notifier = Notifier(DatabaseConnection(service.settings, application="test"))
    connection = DatabaseConnection(service.settings, application="test")
    with structlog.testing.capture_logs() as logs:
        await DeclaredSchedules(handlers, [__name__], connection, notifier).run(asyncio.Event())
    return [entry for entry in logs if entry["event"].startswith("schedule_")]


async def test_worker_declares_the_schedules_of_its_handlers_and_their_ticks_run(service: Service) -> None:
    api = await service.api()
    await service.maintenance()
    await service.relay()
    await service.worker(worker_modules=(MODULE,))
    await service.until(
        "SELECT count(*) >= 2 FROM aftercommit.tasks WHERE status = 'succeeded' AND type = 'test.recurring'"
    )
    _, page = await api.call("GET", "/v1/schedules")
    recurring, yearly = page["schedules"]
    assert recurring.items() >= {"name": "recurring", "interval_seconds": 1, "catch_up": "all"}.items()
    assert yearly.items() >= {"name": "test.yearly", "cron": "0 7 24 12 *", "zone": "Europe/Berlin"}.items()
    assert {each["declared_in"] for each in page["schedules"]} == {MODULE}
    assert all(each["declared_by"] for each in page["schedules"])
    _, account = await api.call("GET", "/v1/schedules/recurring/runs")
    for run in account["runs"]:
        done = await api.get(run["task_id"], wait=20)
        assert done["result"] == {"n": 1, "schedule": "recurring", "tick": run["tick"].replace("Z", "+00:00")}


async def test_worker_that_starts_again_changes_nothing(service: Service) -> None:
    (made,) = await declare(service, a_handler())
    assert made.items() >= {"event": "schedule_declared", "schedule": "recurring", "change": "created"}.items()
    before = await service.query(DEFINITION)
    await service.query("UPDATE aftercommit.schedules SET next_tick = next_tick - interval '1 hour'")
    assert await declare(service, a_handler()) == []
    (after,) = await service.query(DEFINITION)
    assert (before[0].next_tick - after.next_tick).total_seconds() == 3600


async def test_changed_declaration_replaces_the_schedule(service: Service) -> None:
    await declare(service, a_handler())
    (entry,) = await declare(service, a_handler(seconds=3600, overlap="skip"))
    assert entry["change"] == "changed"
    (row,) = await service.query("SELECT interval_seconds, overlap FROM aftercommit.schedules")
    assert tuple(row) == (3600, "skip")


async def test_schedule_that_the_api_made_or_changed_is_left_alone(service: Service) -> None:
    api = await service.api()
    body = {"interval_seconds": 7, "task": {"type": "echo"}}
    await api.call("POST", "/v1/schedules", {"name": "made", **body})
    await declare(service, a_handler("changed"))
    _, changed = await api.call("PUT", "/v1/schedules/changed", body)
    assert changed["declared_in"] is None
    logs = await declare(service, a_handler("made"), a_handler("changed"))
    assert [(entry["event"], entry["schedule"]) for entry in logs] == [
        ("schedule_not_declared", "made"),
        ("schedule_not_declared", "changed"),
    ]
    rows = await service.query("SELECT interval_seconds FROM aftercommit.schedules")
    assert {row[0] for row in rows} == {7}


async def test_schedules_that_cannot_be_declared_yet_do_not_end_the_worker(service: Service) -> None:
    await service.query("ALTER TABLE aftercommit.schedules RENAME TO later")
    stopping = asyncio.Event()
    notifier = Notifier(DatabaseConnection(service.settings, application="test"))
    connection = DatabaseConnection(service.settings, application="test")
    declared = DeclaredSchedules([a_handler()], [__name__], connection, notifier)
    with structlog.testing.capture_logs() as logs:
        declaring = asyncio.create_task(declared.run(stopping))
        async with asyncio.timeout(20):
            while not any(entry["event"] == "tick_failed" for entry in logs):
                await asyncio.sleep(0.01)
            await service.query("ALTER TABLE aftercommit.later RENAME TO schedules")
            await declaring
    assert len(await service.query(DEFINITION)) == 1


async def test_schedule_that_is_no_longer_declared_is_told_and_kept(service: Service) -> None:
    await declare(service, a_handler("old"), a_handler("kept"))
    logs = await declare(service, a_handler("kept"))
    assert [(entry["event"], entry["schedule"]) for entry in logs] == [("schedule_no_longer_declared", "old")]
    assert len(await service.query(DEFINITION)) == 2
