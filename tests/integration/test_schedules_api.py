"""Schedules over HTTP: what there is, what is refused, and tasks beside the ticks."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.service import Service

TASK = {"type": "echo"}
HOURLY = {"interval_seconds": 3600, "task": TASK}
HOUR = timedelta(hours=1)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_schedule_is_created_replaced_paused_and_deleted(service: Service) -> None:
    api = await service.api()
    before = datetime.now(UTC)
    wanted = {"name": "daily", "cron": "30 7 * * *", "zone": "Europe/Berlin", "task": {**TASK, "priority": "high"}}
    status, made = await api.call("POST", "/v1/schedules", wanted)
    assert status == 201
    assert made.items() >= {"name": "daily", "cron": "30 7 * * *", "task": wanted["task"], "paused": False}.items()
    assert before < moment(made["next_tick"]) < before + 25 * HOUR
    assert await api.call("GET", "/v1/schedules/daily") == (200, made)
    assert (await api.refusal("POST", "/v1/schedules", wanted))["code"] == "schedule-exists"

    _, paused = await api.call("POST", "/v1/schedules/daily/pause")
    assert paused["paused"]
    _, replaced = await api.call("PUT", "/v1/schedules/daily", HOURLY)
    assert replaced["paused"]
    assert (replaced["cron"], replaced["zone"], replaced["interval_seconds"]) == (None, None, 3600)
    assert moment(replaced["next_tick"]).minute == 0
    _, resumed = await api.call("POST", "/v1/schedules/daily/resume")
    assert not resumed["paused"]

    await api.call("POST", "/v1/schedules/daily/trigger")
    assert (await api.ask("DELETE", "/v1/schedules/daily")).status == 204
    for method, path in (
        ("GET", ""),
        ("PUT", ""),
        ("DELETE", ""),
        ("GET", "/runs"),
        *(("POST", f"/{verb}") for verb in ("pause", "resume", "trigger", "backfill")),
    ):
        body = {"PUT": HOURLY, "POST": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}}.get(method)
        assert (await api.refusal(method, f"/v1/schedules/daily{path}", body))["code"] == "schedule-not-found"
    assert (await api.call("POST", "/v1/schedules", wanted))[0] == 201
    assert (await api.call("GET", "/v1/schedules/daily/runs"))[1]["runs"] == []


async def test_schedules_are_listed_by_name_page_by_page(service: Service) -> None:
    api = await service.api()
    for name in ("c", "a", "b"):
        await api.call("POST", "/v1/schedules", {"name": name, **HOURLY})
    _, first = await api.call("GET", "/v1/schedules?limit=2")
    assert [each["name"] for each in first["schedules"]] == ["a", "b"]
    _, second = await api.call("GET", f"/v1/schedules?limit=2&cursor={first['next_cursor']}")
    assert ([each["name"] for each in second["schedules"]], second["next_cursor"]) == (["c"], None)


async def test_page_of_schedules_is_cut_where_their_templates_are_large(service: Service) -> None:
    api = await service.api(api_max_page_bytes=100_000)
    sizes = [150_000, 30_000, 30_000, 30_000, 30_000, 10, 10]
    for number, size in enumerate(sizes):
        task = {**TASK, "payload": {"a": "x" * size}}
        assert (await api.call("POST", "/v1/schedules", {"name": f"s{number}", **HOURLY, "task": task}))[0] == 201
    pages, query = [], "limit=1000"
    while query:
        _, page = await api.call("GET", f"/v1/schedules?{query}")
        pages.append([each["name"] for each in page["schedules"]])
        query = f"limit=1000&cursor={page['next_cursor']}" if page["next_cursor"] else ""
    assert pages == [["s0"], ["s1", "s2", "s3"], ["s4", "s5", "s6"]]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"cron": "61 * * * *"}, "#/cron"),
        ({"cron": "0 0 30 2 *"}, "#/cron"),
        ({"cron": "* * */20 * 1L"}, "#/cron"),
        ({"cron": "0 7 * * *", "zone": "Mars/Olympus"}, "#/zone"),
        ({"cron": "0 7 * * *", "interval_seconds": 60}, "#/interval_seconds"),
        ({"interval_seconds": 60, "zone": "UTC"}, "#/zone"),
        ({"interval_seconds": 0.5}, "#/interval_seconds"),
        ({"interval_seconds": None}, "#"),
        ({}, "#"),
        ({"interval_seconds": 60, "jitter_seconds": -1}, "#/jitter_seconds"),
        ({"interval_seconds": 60, "catch_up": "some"}, "#/catch_up"),
        ({"interval_seconds": 60, "overlap": "none"}, "#/overlap"),
        ({"interval_seconds": 60, "name": "a b"}, "#/name"),
        ({"interval_seconds": 60, "task": {"type": "echo", "queue": "unknown"}}, "#/task/queue"),
        ({"interval_seconds": 60, "task": {"type": "echo", "run_at": "2026-01-01T00:00:00Z"}}, "#/task/run_at"),
        ({"interval_seconds": 60, "task": {"type": "echo", "payload": {"a": "x" * 300_000}}}, "#/task/payload"),
    ],
)
async def test_bad_schedule_is_refused_with_the_name_of_its_field(
    service: Service, changes: dict[str, Any], pointer: str
) -> None:
    api = await service.api()
    problem = await api.refusal("POST", "/v1/schedules", {"name": "bad", "task": TASK, **changes})
    assert problem["status"] == 422
    assert [flaw["pointer"] for flaw in problem["errors"]] == [pointer]


async def test_triggered_task_knows_its_schedule_and_stands_in_the_account(service: Service) -> None:
    api = await service.api()
    await service.relay()
    await service.worker()
    await api.call("POST", "/v1/schedules", {"name": "hourly", **HOURLY, "task": {"type": "test.context"}})
    await api.call("POST", "/v1/schedules/hourly/pause")
    made = [(await api.call("POST", "/v1/schedules/hourly/trigger"))[1] for _ in range(3)]
    for task in made:
        done = await api.get(task["id"], wait=30)
        assert done["status"] == "succeeded"
        assert done["schedule"].items() >= {"name": "hourly", "kind": "trigger", "folded": 0}.items()
    _, first = await api.call("GET", "/v1/schedules/hourly/runs?limit=2")
    _, second = await api.call("GET", f"/v1/schedules/hourly/runs?limit=2&cursor={first['next_cursor']}")
    runs = first["runs"] + second["runs"]
    assert [run["task_id"] for run in runs] == [task["id"] for task in reversed(made)]
    assert second["next_cursor"] is None
    assert (await api.submit("echo"))["schedule"] is None


async def test_backfill_makes_a_task_for_each_tick_of_the_past_once(service: Service) -> None:
    api = await service.api()
    await api.call("POST", "/v1/schedules", {"name": "hourly", **HOURLY})
    span = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T05:00:00Z"}
    status, answer = await api.call("POST", "/v1/schedules/hourly/backfill", span)
    assert (status, answer["created"], answer["next_from"]) == (200, 5, None)
    task = await api.get(answer["task_ids"][1])
    assert task["schedule"] == {"name": "hourly", "tick": "2026-01-01T01:00:00Z", "folded": 0, "kind": "backfill"}

    wider = {"from": "2025-12-31T23:00:00Z", "to": "2026-01-01T06:00:00Z"}
    _, again = await api.call("POST", "/v1/schedules/hourly/backfill", wider)
    assert again["created"] == 2
    _, account = await api.call("GET", "/v1/schedules/hourly/runs")
    assert [moment(run["tick"]).hour for run in account["runs"]] == [5, 4, 3, 2, 1, 0, 23]


async def test_backfill_of_a_long_range_goes_on_where_it_stopped_and_leaves_out_what_is_yet_to_come(
    service: Service,
) -> None:
    api = await service.api()
    _, made = await api.call("POST", "/v1/schedules", {"name": "hourly", **HOURLY})
    start, created, requests = moment(made["next_tick"]) - 2_500 * HOUR, 0, 0
    span: dict[str, Any] = {"from": start.isoformat(), "to": "9999-01-01T00:00:00Z"}
    while span["from"] is not None:
        _, answer = await api.call("POST", "/v1/schedules/hourly/backfill", span)
        created += answer["created"]
        requests += 1
        span["from"] = answer["next_from"]
    assert (created, requests) == (2_500, 3)


@pytest.mark.parametrize(
    "timing", [{"cron": "0 7 * * *"}, {"cron": "0 7 * * *", "zone": "Asia/Tokyo"}, {"interval_seconds": 172_800}]
)
async def test_backfill_from_the_end_of_time_makes_nothing(service: Service, timing: dict[str, Any]) -> None:
    api = await service.api()
    await api.call("POST", "/v1/schedules", {"name": "daily", **timing, "task": TASK})
    span = {"from": "9999-12-31T10:00:00Z", "to": "9999-12-31T11:00:00Z"}
    status, answer = await api.call("POST", "/v1/schedules/daily/backfill", span)
    assert (status, answer) == (200, {"created": 0, "task_ids": [], "next_from": None})


async def test_schedule_whose_queue_is_gone_is_not_triggered(service: Service) -> None:
    wide = await service.api(queues=("tasks", "emails"))
    task = {"type": "echo", "queue": "emails"}
    assert (await wide.call("POST", "/v1/schedules", {"name": "mail", **HOURLY, "task": task}))[0] == 201
    api = await service.api()
    problem = await api.refusal("POST", "/v1/schedules/mail/trigger")
    assert (problem["code"], problem["status"]) == ("schedule-refused", 409)
    assert "emails" in problem["detail"]
