"""Ticks of schedules, one round at a time, and once with every role."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from aftercommit.core.errors import DatabaseTimeout
from aftercommit.core.settings import Settings
from aftercommit.core.states import Status
from aftercommit.db import schedule_runs
from aftercommit.db.database import Database, DatabaseConnection, Fetch
from aftercommit.db.schedule_runs import Advance, Entry
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.runtime.notifier import Notifier
from aftercommit.server.maintenance import tick_round
from aftercommit.server.maintenance.schedule_run_pruner import ScheduleRunPruner
from aftercommit.server.maintenance.ticker import Ticker
from tests.integration.service import Api, Service

INTERVAL_SECONDS = 7.0
HOURLY = {"interval_seconds": 3600, "task": {"type": "echo"}}
TASKS = "SELECT id, status, schedule ->> 'tick' AS tick FROM aftercommit.tasks ORDER BY id"


def a_ticker(settings: Settings, database: Database, **changes: Any) -> Ticker:
    notifier = Notifier(DatabaseConnection(settings, application="test"))
    return Ticker(
        database, notifier, **{"queues": KnownQueues(settings.queues), "interval_seconds": INTERVAL_SECONDS, **changes}
    )


@pytest.fixture
async def connections(settings: Settings) -> AsyncIterator[Database]:
    connections = Database(settings, application="test")
    yield connections
    await connections.close()


@pytest.fixture
async def ticker(settings: Settings, connections: Database) -> Ticker:
    return a_ticker(settings, connections)


async def make(api: Api, name: str = "hourly", **changes: Any) -> None:
    status, answer = await api.call("POST", "/v1/schedules", {"name": name, **HOURLY, **changes})
    assert status == 201, answer


async def make_due(service: Service, *, ticks_ago: int = 0, name: str = "%") -> None:
    """The next tick of schedules is the last full hour, or that many before it; and due at this moment. What is in
    their account was long before."""
    await service.query(
        "UPDATE aftercommit.schedule_runs r SET tick = tick - interval '100 days',"
        " first_tick = first_tick - interval '100 days' FROM aftercommit.schedules s"
        " WHERE s.id = r.schedule_id AND s.name LIKE :name",
        name=name,
    )
    await service.query(
        "UPDATE aftercommit.schedules SET look_at = now(), next_due_at = now(),"
        " next_tick = date_trunc('hour', now()) - make_interval(hours => :ago) WHERE name LIKE :name",
        ago=ticks_ago,
        name=name,
    )


async def run(ticker: Ticker) -> None:
    """Rounds until nothing is due."""
    async with asyncio.timeout(30):
        while await ticker.run_once() == 0:
            pass


async def runs(api: Api, name: str = "hourly") -> list[dict[str, Any]]:
    """The account, oldest first."""
    _, answer = await api.call("GET", f"/v1/schedules/{name}/runs?limit=1000")
    return list(reversed(answer["runs"]))


def told(account: list[dict[str, Any]]) -> list[tuple[str, int, str | None]]:
    return [(run["outcome"], run["folded"], run["reason"]) for run in account]


async def test_due_tick_its_entry_and_the_next_tick_are_committed_together(service: Service, ticker: Ticker) -> None:
    api = await service.api()
    await make(api)
    assert 0 < await ticker.run_once() <= INTERVAL_SECONDS
    await make_due(service)
    await run(ticker)
    (entry,) = await runs(api)
    (task,) = await service.query(TASKS)
    assert (entry["outcome"], entry["task_id"]) == ("created", str(task.id))
    assert task.tick.replace("+00:00", "Z") == entry["tick"] == entry["due_at"] == entry["first_tick"]
    assert 0 <= entry["late_seconds"] < 3_601
    _, schedule = await api.call("GET", "/v1/schedules/hourly")
    assert datetime.fromisoformat(schedule["next_tick"]) == datetime.fromisoformat(entry["tick"]) + timedelta(hours=1)
    assert schedule["latest_task_id"] == entry["task_id"]
    assert await service.query("SELECT unnest(task_ids) FROM aftercommit.outbox_rows") == [(task.id,)]


async def test_any_number_of_tickers_decide_each_tick_once(
    service: Service, settings: Settings, connections: Database
) -> None:
    api = await service.api()
    for number in range(150):
        await make(api, f"schedule-{number}", catch_up="all")
    await make_due(service, ticks_ago=3)
    tickers = [a_ticker(settings, connections) for _ in range(3)]
    await asyncio.gather(*(run(each) for each in tickers))
    await asyncio.gather(*(run(each) for each in tickers))
    found = await service.query(
        "SELECT count(*), count(DISTINCT (schedule ->> 'name', schedule ->> 'tick')) FROM aftercommit.tasks"
    )
    assert [tuple(row) for row in found] == [(600, 600)]
    account = await service.query(
        "SELECT count(*), count(DISTINCT task_id), sum(folded) FROM aftercommit.schedule_runs"
    )
    assert [tuple(row) for row in account] == [(600, 600, 0)]


async def test_missed_ticks_fold_into_one_task_that_knows_of_them(service: Service, ticker: Ticker) -> None:
    api = await service.api()
    await make(api)
    await make_due(service, ticks_ago=9)
    await run(ticker)
    assert told(await runs(api)) == [("created", 9, None)]
    assert (await service.query("SELECT schedule ->> 'folded' FROM aftercommit.tasks"))[0][0] == "9"


async def test_tick_is_skipped_while_the_latest_task_has_not_ended(service: Service, ticker: Ticker) -> None:
    api = await service.api()
    await make(api, overlap="skip", catch_up="all")
    await make_due(service, ticks_ago=2)
    await run(ticker)
    assert told(await runs(api)) == [("created", 0, None), ("skipped", 1, "overlap")]


async def test_one_tick_waits_for_the_end_of_the_latest_task(service: Service, ticker: Ticker) -> None:
    api = await service.api()
    await make(api, overlap="buffer_one", catch_up="all")
    await make_due(service, ticks_ago=2)
    await run(ticker)
    assert told(await runs(api)) == [("created", 0, None), ("buffered", 0, None), ("skipped", 0, "overlap")]
    (first,) = await service.query(TASKS)

    async def look() -> None:
        await service.query("UPDATE aftercommit.schedules SET look_at = now()")
        await run(ticker)

    await look()
    assert len(await service.query(TASKS)) == 1
    await api.call("POST", f"/v1/tasks/{first.id}/complete", {"result": 1})
    await look()
    account = await runs(api)
    assert told(account) == [("created", 0, None), ("created", 0, None), ("skipped", 0, "overlap")]
    assert [str(task.id) for task in await service.query(TASKS)] == [account[0]["task_id"], account[1]["task_id"]]
    _, schedule = await api.call("GET", "/v1/schedules/hourly")
    assert (schedule["buffered_tick"], schedule["latest_task_id"]) == (None, account[1]["task_id"])


async def test_waiting_task_is_cancelled_for_the_next_tick(service: Service, ticker: Ticker) -> None:
    api = await service.api()
    await make(api, overlap="cancel_running")
    await make_due(service)
    await run(ticker)
    await make_due(service)
    await run(ticker)
    assert told(await runs(api)) == [("created", 0, None), ("created", 0, None)]
    first, second = await service.query(TASKS)
    assert (first.status, second.status) == (Status.CANCELLED, Status.QUEUED)
    assert "hourly" in (await api.get(str(first.id)))["error"]["message"]


async def test_task_is_not_cancelled_for_one_that_cannot_be_submitted(service: Service, ticker: Ticker) -> None:
    api = await service.api(queues=("tasks", "emails"))
    await make(api, overlap="cancel_running")
    await make_due(service)
    await run(ticker)
    await api.call("PUT", "/v1/schedules/hourly", {**HOURLY, "overlap": "cancel_running",
        "task": {"type": "echo", "queue": "emails"}})  # fmt: skip
    await make_due(service)
    await run(ticker)
    assert [run["outcome"] for run in await runs(api)] == ["created", "refused"]
    assert [task.status for task in await service.query(TASKS)] == [Status.QUEUED]


async def test_running_task_is_to_be_cancelled_and_the_next_tick_waits_for_that(
    service: Service, ticker: Ticker
) -> None:
    api = await service.api()
    await make(api, overlap="cancel_running")
    await make_due(service)
    await run(ticker)
    await service.query("UPDATE aftercommit.tasks SET status = 'running', worker = 'w', started_at = now()")
    await make_due(service)
    await run(ticker)
    assert told(await runs(api)) == [("created", 0, None), ("buffered", 0, None)]
    assert [tuple(row) for row in await service.query("SELECT features, status FROM aftercommit.tasks")] == [
        (2, "running")
    ]
    await service.query(
        "UPDATE aftercommit.tasks SET status = 'cancelled', finished_at = now(), error = '{\"type\": \"Cancelled\"}'"
    )
    await service.query("UPDATE aftercommit.schedules SET look_at = now()")
    await run(ticker)
    assert told(await runs(api)) == [("created", 0, None), ("created", 0, None)]


async def test_ticks_of_a_pause_are_skipped_and_told(service: Service, ticker: Ticker) -> None:
    api = await service.api()
    await make(api, catch_up="all")
    await api.call("POST", "/v1/schedules/hourly/pause")
    await service.query("UPDATE aftercommit.schedules SET paused_at = now() - interval '1 day'")
    await make_due(service, ticks_ago=4)
    await run(ticker)
    assert await runs(api) == []
    for verb in ("resume", "pause", "pause", "resume"):  # a pause on a pause that was not decided
        await api.call("POST", f"/v1/schedules/hourly/{verb}")
    await run(ticker)
    assert told(await runs(api)) == [("skipped", 4, "paused")]
    assert await service.query(TASKS) == []


async def test_ticks_that_were_missed_before_a_pause_are_caught_up_after_it(service: Service, ticker: Ticker) -> None:
    api = await service.api()
    await make(api)
    await make_due(service, ticks_ago=4)
    await service.query(
        "UPDATE aftercommit.schedules SET next_due_at = next_tick, paused_at = now() - interval '2 days',"
        " resumed_at = now() - interval '1 day'"
    )
    await api.call("POST", "/v1/schedules/hourly/pause")
    span = {"from": (datetime.now(UTC) - timedelta(hours=3)).isoformat(), "to": datetime.now(UTC).isoformat()}
    _, backfilled = await api.call("POST", "/v1/schedules/hourly/backfill", span)
    assert backfilled["created"] == 0
    await api.call("POST", "/v1/schedules/hourly/resume")
    await run(ticker)
    assert told(await runs(api)) == [("created", 4, None)]


async def test_round_looks_at_no_more_schedules_than_have_ticks_enough(
    service: Service, ticker: Ticker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tick_round, "ENOUGH_TICKS", 20)
    api = await service.api()
    for number in range(5):
        await make(api, f"schedule-{number}")
    await make_due(service, ticks_ago=11)
    assert await ticker.run_once() == 0
    decided = "SELECT count(*) FROM aftercommit.schedules WHERE latest_task_id IS NOT NULL"
    assert (await service.query(decided))[0][0] == 2
    await run(ticker)
    assert (await service.query(decided))[0][0] == 5


async def test_batch_that_takes_too_long_is_halved(
    service: Service, ticker: Ticker, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = schedule_runs.advance

    async def slow(fetch: Fetch, advances: Sequence[Advance], entries: Sequence[Entry]) -> None:
        if len(advances) > 2:
            raise DatabaseTimeout("Postgres cancelled the statement.")
        await advance(fetch, advances, entries)

    monkeypatch.setattr(schedule_runs, "advance", slow)
    api = await service.api()
    for number in range(4):
        await make(api, f"schedule-{number}")
    await make_due(service)
    with pytest.raises(DatabaseTimeout):
        await ticker.run_once()
    assert await ticker.run_once() == 0
    assert len(await service.query(TASKS)) == 2


async def test_schedule_that_cannot_be_submitted_any_more_is_told_and_stops_no_other(
    service: Service, ticker: Ticker
) -> None:
    api = await service.api(queues=("tasks", "emails"))
    await make(api, "gone", task={"type": "echo", "queue": "emails"})
    await make(api, "sound")
    await make_due(service)
    with structlog.testing.capture_logs() as logs:
        await run(ticker)
    assert [entry["schedule"] for entry in logs if entry["event"] == "tick_refused"] == ["gone"]
    assert told(await runs(api, "sound")) == [("created", 0, None)]
    (entry,) = await runs(api, "gone")
    assert (entry["outcome"], entry["task_id"]) == ("refused", None)
    assert "emails" in entry["reason"]
    _, schedule = await api.call("GET", "/v1/schedules/gone")
    assert schedule["next_tick"] > entry["tick"]


async def test_schedule_whose_ticks_cannot_be_written_is_left_alone_and_stops_no_other(
    service: Service, ticker: Ticker
) -> None:
    """No tick is decided twice, whatever went wrong before: the account refuses it. And a zone may be missing here."""
    api = await service.api()
    for name in ("broken", "sound", "well"):
        await make(api, name)
    await make(api, "lost", interval_seconds=None, cron="* * * * *", zone="Europe/Berlin")
    await service.query("UPDATE aftercommit.schedules SET zone = 'Europe/Atlantis' WHERE name = 'lost'")
    await make_due(service, name="%o%n%")
    await make_due(service, name="well")
    await run(ticker)
    await make_due(service)
    await service.query(
        "UPDATE aftercommit.schedule_runs SET tick = tick + interval '100 days' FROM aftercommit.schedules s"
        " WHERE s.id = schedule_id AND s.name = 'broken'"
    )
    with structlog.testing.capture_logs() as logs:
        await run(ticker)
    failed = [entry["schedule"] for entry in logs if entry["event"] == "schedule_failed"]
    assert sorted(failed) == ["broken", "lost"]
    assert [len(await runs(api, name)) for name in ("broken", "sound", "well")] == [1, 2, 2]


async def test_replaced_schedule_decides_no_tick_again(service: Service, ticker: Ticker) -> None:
    api = await service.api()
    await make(api)
    await service.query("INSERT INTO aftercommit.schedule_runs (schedule_id, tick, kind, first_tick, due_at, outcome)"
        " SELECT id, next_tick, 'tick', next_tick, next_tick, 'created' FROM aftercommit.schedules")  # fmt: skip
    _, before = await api.call("GET", "/v1/schedules/hourly")
    _, after = await api.call("PUT", "/v1/schedules/hourly", HOURLY)
    assert datetime.fromisoformat(after["next_tick"]) == datetime.fromisoformat(before["next_tick"]) + timedelta(
        hours=1
    )


async def test_old_entries_are_deleted(service: Service, connections: Database, ticker: Ticker) -> None:
    api = await service.api()
    await make(api, catch_up="all")
    await make_due(service, ticks_ago=4)
    await run(ticker)
    await service.query(
        "UPDATE aftercommit.schedule_runs SET decided_at = now() - interval '2 days'"
        " WHERE tick < now() - interval '150 minutes'"
    )
    left = [run for run in await runs(api) if run["late_seconds"] > 0]
    pruner = ScheduleRunPruner(connections, retention_seconds=86_400, interval_seconds=5)
    assert await pruner.run_once() == 5
    assert await runs(api) == left
    assert 0 < len(left) < 5


async def test_schedule_that_is_made_wakes_a_ticker_that_sleeps_and_its_tasks_run(service: Service) -> None:
    """Nothing here polls within the time that the test allows."""
    await service.maintenance(scheduler_interval_seconds=60)
    await service.relay(outbox_poll_interval=60)
    await service.worker()
    api = await service.api()
    first = await api.submit("echo")
    assert (await api.get(first["id"], wait=60))["status"] == "succeeded"  # all roles are up
    await make(api, "secondly", interval_seconds=None, cron="* * * * * *", catch_up="all")
    await service.until(
        "SELECT count(*) >= 4 FROM aftercommit.tasks WHERE status = 'succeeded' AND schedule IS NOT NULL", seconds=20
    )
    await api.call("POST", "/v1/schedules/secondly/pause")
    account = await runs(api, "secondly")
    ticks = [datetime.fromisoformat(run["tick"]) for run in account]
    assert all(later - earlier == timedelta(seconds=1) for earlier, later in itertools.pairwise(ticks))
    assert {run["outcome"] for run in account} == {"created"}
    assert sorted(run["late_seconds"] for run in account)[len(account) // 2] < 0.5
