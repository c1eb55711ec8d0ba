"""``GET /v1/tasks``: filters and pages."""

import re
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.integration.service import Api, Service

NONSENSE: list[tuple[str, str]] = [
    ("status=done", "status"),
    ("type=1a", "type"),
    ("type=a%00", "type"),
    ("type=%ED%A0%80", "type"),
    ("tag=%FF", "tag"),
    ("queue=A", "queue"),
    ("priority=urgent", "priority"),
    ("tag=%20", "tag"),
    ("tag=%00", "tag"),
    ("cursor=x", "cursor"),
    ("cursor=" + "g" * 32, "cursor"),
    ("cursor=", "cursor"),
    ("limit=0", "limit"),
    ("limit=1001", "limit"),
    ("limit=x", "limit"),
    ("limit=" + "9" * 500, "limit"),
    ("created_from=yesterday", "created_from"),
    ("created_from=0", "created_from"),
    ("created_from=2026-01-01", "created_from"),
    ("created_from=2026-01-01T00:00:00", "created_from"),
    ("created_from=0001-01-01T00:00:00%2B14:00", "created_from"),
    ("created_before=9999-12-31T23:59:59-14:00", "created_before"),
    ("created_before=2026-13-01T00:00:00Z", "created_before"),
    ("include=", "include"),
    ("include=everything", "include"),
    ("include=payload,,error", "include"),
    ("colour=red", "colour"),
]


async def listed(api: Api, **query: Any) -> list[str]:
    answer = await api.ask("GET", f"/v1/tasks?{urlencode(query)}")
    assert answer.status == 200, answer
    return [task["id"] for task in answer.body["tasks"]]


async def pages(api: Api, *, limit: int, **query: Any) -> list[list[str]]:
    found: list[list[str]] = []
    cursor: str | None = None
    while True:
        asked = {"limit": limit, **query} | ({"cursor": cursor} if cursor else {})
        status, page = await api.call("GET", f"/v1/tasks?{urlencode(asked)}")
        assert status == 200
        found.append([task["id"] for task in page["tasks"]])
        if (cursor := page["next_cursor"]) is None:
            return found


async def test_page_is_empty_when_there_are_no_tasks(service: Service) -> None:
    api = await service.api()
    assert await api.call("GET", "/v1/tasks") == (200, {"tasks": [], "next_cursor": None})


@pytest.mark.parametrize(("limit", "sizes"), [(7, [7, 7, 7, 4]), (5, [5, 5, 5, 5, 5]), (25, [25]), (1000, [25])])
async def test_pages_have_no_gap_and_no_repeat_when_tasks_come_meanwhile(
    service: Service, limit: int, sizes: list[int]
) -> None:
    api = await service.api()
    expected = [task["id"] for task in await api.submit_batch([{"type": "echo"}] * 20)]
    expected += [(await api.submit("echo"))["id"] for _ in range(5)]
    status, first = await api.call("GET", f"/v1/tasks?limit={limit}")
    assert status == 200
    await api.submit("echo")
    found = [task["id"] for task in first["tasks"]]
    counted = [len(found)]
    while first["next_cursor"]:
        status, first = await api.call("GET", f"/v1/tasks?limit={limit}&cursor={first['next_cursor']}")
        counted.append(len(first["tasks"]))
        found += [task["id"] for task in first["tasks"]]
    assert found == expected[::-1]
    assert counted == sizes


async def test_listing_leaves_out_and_does_not_read_what_is_not_asked_for(service: Service, sent: list[str]) -> None:
    api = await service.api()
    task = await api.submit("echo", payload={"a": 1})
    await api.call("POST", f"/v1/tasks/{task['id']}/complete", {"error": {"type": "A", "message": "b"}})
    whole = await api.get(task["id"])
    bulky = {"payload", "result", "error"}
    for include in ([], ["payload"], ["error", "result"], ["payload", "result", "error"]):
        sent.clear()
        query = f"?include={','.join(include)}" if include else ""
        _, page = await api.call("GET", f"/v1/tasks{query}")
        left_out = {"progress"} | (bulky - set(include))
        assert page["tasks"] == [{name: value for name, value in whole.items() if name not in left_out}]
        [statement] = [statement for statement in sent if "ORDER BY" in statement]
        columns = statement.partition("FROM")[0]
        assert {name for name in bulky if re.search(rf"tasks\.{name}\b", columns)} == set(include)


async def test_pages_are_cut_where_their_payloads_are_large(service: Service) -> None:
    api = await service.api(api_max_page_bytes=100_000)
    sizes = [30_000] * 7 + [150_000] * 2 + [10] * 60
    tasks = await api.submit_batch([{"type": "echo", "payload": {"a": "x" * size}} for size in sizes])
    newest = [task["id"] for task in reversed(tasks)]
    found = await pages(api, limit=1000, include="payload")
    assert [id_ for page in found for id_ in page] == newest
    # The small ones; each of the largest alone; as many of the others as there is room for.
    assert [len(page) for page in found] == [60, 1, 1, 3, 3, 1]
    assert await pages(api, limit=1000) == [newest]
    assert [len(page) for page in await pages(api, limit=55, include="payload")] == [55, 5, 1, 1, 3, 3, 1]


async def test_task_is_found_by_each_of_its_traits(service: Service) -> None:
    api = await service.api(queues=("tasks", "emails"))
    plain = (await api.submit("echo"))["id"]
    mail = (await api.submit("mail.send", queue="emails", priority="high", tags=["order:1", "x"]))["id"]
    low = (await api.submit("echo", priority="low", tags=["order:2"]))["id"]
    assert await listed(api) == [low, mail, plain]
    assert await listed(api, type="mail.send") == [mail]
    assert await listed(api, queue="emails") == [mail]
    assert await listed(api, queue="unknown") == []
    assert await listed(api, priority="low") == [low]
    assert await listed(api, tag="order:1") == [mail]
    assert await listed(api, tag="order") == []
    # All given filters hold.
    assert await listed(api, type="echo", priority="low", tag="order:2", status="queued") == [low]
    assert await listed(api, type="echo", tag="order:1") == []


async def test_task_is_found_by_its_state(service: Service) -> None:
    api = await service.api()
    states = {
        "scheduled": "finished_at = NULL, error = NULL, dispatch = 0, enqueued = false, due_at = now()",
        "queued": "finished_at = NULL, error = NULL",
        "running": "finished_at = NULL, error = NULL",
        "retrying": """finished_at = NULL, error = '{"type": "A", "message": "b", "traceback": null}'""",
        "succeeded": "finished_at = now(), error = NULL",
        "failed": """finished_at = now(), error = '{"type": "A", "message": "b", "traceback": null}'""",
        "cancelled": """finished_at = now(), error = '{"type": "A", "message": "b", "traceback": null}'""",
        "expired": """finished_at = now(), error = '{"type": "A", "message": "b", "traceback": null}'""",
    }
    ids = {}
    for state, columns in states.items():
        ids[state] = (await api.submit("echo"))["id"]
        await service.query(f"UPDATE aftercommit.tasks SET status = '{state}', {columns} WHERE id = '{ids[state]}'")
    for state, task_id in ids.items():
        assert await listed(api, status=state) == [task_id]


async def test_pages_hold_under_a_filter(service: Service) -> None:
    api = await service.api()
    tasks = await api.submit_batch([{"type": "echo", "tags": ["odd"] if n % 2 else ["even"]} for n in range(20)])
    odd = [task["id"] for task in tasks if task["tags"] == ["odd"]]
    assert await pages(api, limit=4, tag="odd") == [odd[9:5:-1], odd[5:1:-1], odd[1::-1]]


async def test_task_is_found_by_when_it_was_created(service: Service) -> None:
    api = await service.api()
    first, second, third = [await api.submit("echo") for _ in range(3)]
    moment = second["created_at"]
    assert await listed(api, created_from=moment) == [third["id"], second["id"]]
    assert await listed(api, created_before=moment) == [first["id"]]
    assert await listed(api, created_from=moment, created_before=third["created_at"]) == [second["id"]]
    assert await listed(api, created_from="2000-01-01T00:00:00+02:00", created_before="0001-01-01T00:00:00Z") == []
    assert await listed(api, created_before="9999-12-31T23:59:59.999999Z") == [
        third["id"],
        second["id"],
        first["id"],
    ]


async def test_task_is_found_when_the_clock_that_made_its_id_is_half_an_hour_off(service: Service) -> None:
    api = await service.api()
    task = await api.submit("echo")
    for shift in ("- interval '30 minutes'", "+ interval '30 minutes'"):
        [row] = await service.query(f"UPDATE aftercommit.tasks SET created_at = now() {shift} RETURNING created_at")
        moment = row[0].isoformat()
        assert await listed(api, created_from=moment) == [task["id"]]
        assert await listed(api, created_before=moment) == []


async def test_problem_names_the_parameter_when_a_filter_is_nonsense(service: Service) -> None:
    api = await service.api()
    for query, name in NONSENSE:
        problem = await api.refusal("GET", f"/v1/tasks?{query}")
        assert (problem["status"], problem["code"]) == (422, "invalid-request"), query
        assert [error["pointer"] for error in problem["errors"]] == [name], query


async def test_cursor_is_taken_when_no_task_has_it(service: Service) -> None:
    api = await service.api()
    task = await api.submit("echo")
    assert await listed(api, cursor="f" * 32) == [task["id"]]
    assert await listed(api, cursor="0" * 32) == []
