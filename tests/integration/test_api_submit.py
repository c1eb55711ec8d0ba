"""``POST /v1/tasks`` and ``/v1/tasks/batch``: what is taken, and where the pointer points when it is not."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.integration.service import Api, Service

HUGE = 10**400


async def pointers(api: Api, body: Any, path: str = "/v1/tasks") -> list[str]:
    problem = await api.refusal("POST", path, data=body, headers={"Content-Type": "application/json"})
    assert (problem["status"], problem["code"]) == (422, "invalid-request"), problem
    assert problem["errors"][0]["pointer"] in problem["detail"]
    return [error["pointer"] for error in problem["errors"]]


async def test_task_is_kept_as_submitted_when_every_field_is_given(service: Service) -> None:
    api = await service.api()
    fields = {
        "payload": {"text": "Straße \U0001f600", "huge": 10**30, "small": 1e-300, "none": None, "": [[], {}]},
        "queue": "tasks",
        "priority": "low",
        "max_retries": 1000,
        "timeout_seconds": 0.5,
        "tags": ["order:4711", "a@b/c=d#e+f-g_h.i"],
    }
    answer = await api.ask("POST", "/v1/tasks", {"type": "order.ship", **fields})
    assert answer.status == 201
    task = answer.body
    assert {name: task[name] for name in fields} == fields
    assert (task["status"], task["dispatch"], task["attempt"], task["result"], task["error"]) == (
        "queued",
        1,
        0,
        None,
        None,
    )
    assert task["id"][14] == "7"
    assert task.pop("submission") == "created"
    assert await api.get(task["id"]) == task
    [row] = await service.query(
        "SELECT work_queue, task_ids[1]::text, dispatches[1], destination FROM aftercommit.outbox_rows"
    )
    assert tuple(row) == ("tasks.low", task["id"], 1, "tasks.low")


async def test_defaults_hold_when_only_the_type_is_given(service: Service) -> None:
    api = await service.api(queues=("emails", "tasks"))
    task = await api.submit("echo")
    assert (task["queue"], task["priority"], task["payload"], task["tags"]) == ("emails", "medium", {}, [])
    assert (task["max_retries"], task["timeout_seconds"]) == (None, None)


async def test_task_with_a_time_is_scheduled_and_not_in_the_outbox(service: Service) -> None:
    api = await service.api()
    made = await api.submit_batch(
        [
            {"type": "echo", "run_at": "2031-02-28T23:30:00+01:00"},
            {"type": "echo", "delay_seconds": 0.5},
            {"type": "echo"},
            {"type": "echo", "run_at": "2001-02-28T23:30:00Z"},
            {"type": "echo", "delay_seconds": 0},
        ]
    )
    assert [task["status"] for task in made] == ["scheduled", "scheduled", "queued", "queued", "queued"]
    assert [task["dispatch"] for task in made] == [0, 0, 1, 1, 1]
    assert made[0]["due_at"] == "2031-02-28T22:30:00Z"
    created_at, due_at = (datetime.fromisoformat(made[1][name]) for name in ("created_at", "due_at"))
    assert due_at - created_at == timedelta(seconds=0.5)
    assert [task["due_at"] for task in made[2:]] == [None] * 3
    assert [await api.get(task["id"]) for task in made] == made
    (row,) = await service.query("SELECT task_ids::text[] FROM aftercommit.outbox_rows")
    assert sorted(row.task_ids) == sorted(task["id"] for task in made[2:])
    queues = await api.call("GET", "/v1/queues")
    (medium,) = (queue for queue in queues[1]["queues"] if queue["name"] == "tasks.medium")
    assert (medium["scheduled"], medium["waiting"]) == (2, 3)
    page = await api.call("GET", "/v1/tasks?status=scheduled")
    assert {task["id"] for task in page[1]["tasks"]} == {task["id"] for task in made[:2]}


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"run_at": "2031-01-01T00:00:00Z", "delay_seconds": 1}, "#/delay_seconds"),
        ({"run_at": "2031-01-01T00:00:00"}, "#/run_at"),
        ({"run_at": "tomorrow"}, "#/run_at"),
        ({"run_at": 1_900_000_000}, "#/run_at"),
        ({"run_at": "9999-12-31T23:59:59-12:00"}, "#/run_at"),
        ({"delay_seconds": -0.1}, "#/delay_seconds"),
        ({"delay_seconds": 4e9}, "#/delay_seconds"),
        ({"delay_seconds": "5"}, "#/delay_seconds"),
        ({"delay_seconds": True}, "#/delay_seconds"),
    ],
)
async def test_time_that_is_none_is_refused(service: Service, fields: dict[str, Any], pointer: str) -> None:
    api = await service.api()
    assert await pointers(api, json.dumps({"type": "echo", **fields})) == [pointer]


@pytest.mark.parametrize(
    ("retry", "kept"),
    [
        ({"delays_seconds": [0, 5, 0.5]}, {"delays_seconds": [0, 5, 0.5]}),
        (
            {"backoff": {"initial_seconds": 1}},
            {"backoff": {"initial_seconds": 1, "factor": 2, "cap_seconds": 3600, "jitter": 0.1}},
        ),
        (None, None),
    ],
)
async def test_own_delays_are_kept_as_submitted(service: Service, retry: Any, kept: Any) -> None:
    api = await service.api()
    header = {"Idempotency-Key": "k"}
    body = {"type": "echo", "retry": retry, "result_ttl_seconds": 0.5}
    first = await api.ask("POST", "/v1/tasks", body, headers=header)
    assert (first.body["retry"], first.body["result_ttl_seconds"], first.body["result_expires_at"]) == (kept, 0.5, None)
    again = (await api.ask("POST", "/v1/tasks", body, headers=header)).body
    assert (first.body.pop("submission"), again.pop("submission")) == ("created", "replayed")
    assert first.body == again == await api.get(first.body["id"])
    _, page = await api.call("GET", "/v1/tasks")
    assert page["tasks"][0]["retry"] == kept


async def test_doubles_are_dropped_when_a_tag_is_given_twice(service: Service) -> None:
    api = await service.api()
    task = await api.submit("echo", tags=["b", "a", "b"])
    assert task["tags"] == ["b", "a"]


async def test_whole_number_is_taken_when_it_is_written_with_a_point(service: Service) -> None:
    api = await service.api()
    answer = await api.ask(
        "POST", "/v1/tasks", data=b'{"type":"echo","max_retries":5.0}', headers={"Content-Type": "application/json"}
    )
    assert (answer.status, answer.body["max_retries"]) == (201, 5)


BAD_FIELDS: list[tuple[str, str]] = [
    ("{}", "#/type"),
    ("[]", "#"),
    ("null", "#"),
    ('"echo"', "#"),
    ('{"type": "echo", "colour": 1}', "#/colour"),
    ('{"type": "echo", "a/b~c": 1}', "#/a~1b~0c"),
    ('{"type": 5}', "#/type"),
    ('{"type": ""}', "#/type"),
    ('{"type": "1a"}', "#/type"),
    ('{"type": "echo\\n"}', "#/type"),
    (f'{{"type": "{"a" * 201}"}}', "#/type"),
    ('{"type": "echo", "payload": []}', "#/payload"),
    ('{"type": "echo", "payload": null}', "#/payload"),
    ('{"type": "echo", "queue": "nowhere"}', "#/queue"),
    ('{"type": "echo", "queue": "tasks\\n"}', "#/queue"),
    ('{"type": "echo", "queue": "tasks.high"}', "#/queue"),
    ('{"type": "echo", "queue": 5}', "#/queue"),
    ('{"type": "echo", "priority": "urgent"}', "#/priority"),
    ('{"type": "echo", "priority": "HIGH"}', "#/priority"),
    ('{"type": "echo", "priority": null}', "#/priority"),
    ('{"type": "echo", "priority": 1}', "#/priority"),
    ('{"type": "echo", "max_retries": -1}', "#/max_retries"),
    ('{"type": "echo", "max_retries": 1001}', "#/max_retries"),
    ('{"type": "echo", "max_retries": "5"}', "#/max_retries"),
    ('{"type": "echo", "max_retries": 5.5}', "#/max_retries"),
    ('{"type": "echo", "max_retries": true}', "#/max_retries"),
    ('{"type": "echo", "max_retries": 1e400}', "#/max_retries"),
    (f'{{"type": "echo", "max_retries": {HUGE}}}', "#/max_retries"),
    ('{"type": "echo", "timeout_seconds": 0}', "#/timeout_seconds"),
    ('{"type": "echo", "timeout_seconds": 604801}', "#/timeout_seconds"),
    ('{"type": "echo", "timeout_seconds": NaN}', "#/timeout_seconds"),
    ('{"type": "echo", "timeout_seconds": Infinity}', "#/timeout_seconds"),
    ('{"type": "echo", "timeout_seconds": "5"}', "#/timeout_seconds"),
    (f'{{"type": "echo", "timeout_seconds": {HUGE}}}', "#/timeout_seconds"),
    ('{"type": "echo", "retry": 5}', "#/retry"),
    ('{"type": "echo", "retry": {}}', "#/retry"),
    ('{"type": "echo", "retry": {"delays_seconds": null}}', "#/retry"),
    ('{"type": "echo", "retry": {"delays_seconds": [5], "backoff": {"initial_seconds": 1}}}', "#/retry"),
    ('{"type": "echo", "retry": {"delays_seconds": []}}', "#/retry/delays_seconds"),
    ('{"type": "echo", "retry": {"delays_seconds": [5, -1]}}', "#/retry/delays_seconds/1"),
    ('{"type": "echo", "retry": {"delays_seconds": [31536001]}}', "#/retry/delays_seconds/0"),
    ('{"type": "echo", "retry": {"delays_seconds": ["5"]}}', "#/retry/delays_seconds/0"),
    (json.dumps({"type": "echo", "retry": {"delays_seconds": [1] * 51}}), "#/retry/delays_seconds"),
    ('{"type": "echo", "retry": {"delay": 5}}', "#/retry/delay"),
    ('{"type": "echo", "retry": {"backoff": {}}}', "#/retry/backoff/initial_seconds"),
    ('{"type": "echo", "retry": {"backoff": {"initial_seconds": 0}}}', "#/retry/backoff/initial_seconds"),
    ('{"type": "echo", "retry": {"backoff": {"initial_seconds": 1, "factor": 0.5}}}', "#/retry/backoff/factor"),
    ('{"type": "echo", "retry": {"backoff": {"initial_seconds": 1, "jitter": 1.5}}}', "#/retry/backoff/jitter"),
    ('{"type": "echo", "retry": {"backoff": {"initial_seconds": 1, "cap_seconds": 0}}}', "#/retry/backoff/cap_seconds"),
    ('{"type": "echo", "result_ttl_seconds": 0}', "#/result_ttl_seconds"),
    ('{"type": "echo", "result_ttl_seconds": true}', "#/result_ttl_seconds"),
    (f'{{"type": "echo", "result_ttl_seconds": {HUGE}}}', "#/result_ttl_seconds"),
    ('{"type": "echo", "tags": "a"}', "#/tags"),
    ('{"type": "echo", "tags": ["ok", "not ok"]}', "#/tags/1"),
    ('{"type": "echo", "tags": [""]}', "#/tags/0"),
    (json.dumps({"type": "echo", "tags": ["a"] * 21}), "#/tags"),
    ('{"type": "echo", "payload": {"a": [1, "x\\u0000"]}}', "#/payload/a/1"),
    ('{"type": "echo", "payload": {"a\\u0000": 1}}', "#/payload"),
    ('{"type": "echo", "payload": {"a": "\\ud800"}}', "#/payload/a"),
    ('{"type": "echo", "payload": {"\\udfff": 1}}', "#/payload"),
    ('{"type": "echo", "payload": {"a": NaN}}', "#/payload/a"),
    ('{"type": "echo", "payload": {"a": -1e400}}', "#/payload/a"),
    ('{"type": "ec\\u0000ho"}', "#/type"),
    ('{"type": "echo", "\\ud800": 1}', "#"),
]


@pytest.mark.parametrize("batch", [False, True])
async def test_problem_points_at_the_field_when_it_is_bad(service: Service, batch: bool) -> None:
    api = await service.api()
    for task, pointer in BAD_FIELDS:
        if batch:
            found = await pointers(api, f'{{"tasks": [{{"type": "echo"}}, {task}]}}'.encode(), "/v1/tasks/batch")
            assert found == [f"#/tasks/1{pointer[1:]}"], task
        else:
            assert await pointers(api, task.encode()) == [pointer], task
    assert (
        await service.query(
            "SELECT id::text FROM aftercommit.tasks UNION ALL SELECT id::text FROM aftercommit.outbox_rows"
        )
        == []
    )


async def test_payload_is_refused_when_it_is_nested_too_deep(service: Service) -> None:
    api = await service.api()
    deepest = '{"type": "echo", "payload": {"a": ' + "[" * 98 + "]" * 98 + "}}"
    answer = await api.ask("POST", "/v1/tasks", data=deepest, headers={"Content-Type": "application/json"})
    assert answer.status == 201
    assert (await api.get(answer.body["id"]))["payload"] == answer.body["payload"]
    deeper = '{"type": "echo", "payload": {"a": ' + "[" * 102 + "]" * 102 + "}}"
    assert await pointers(api, deeper.encode()) == ["#/payload/a" + "/0" * 99]


async def test_every_bad_field_has_its_entry_when_several_are_bad(service: Service) -> None:
    api = await service.api()
    found = await pointers(api, b'{"priority": 1, "colour": 2, "tags": ["a", " "]}')
    assert set(found) == {"#/type", "#/priority", "#/colour", "#/tags/1"}


async def test_list_of_errors_is_cut_when_it_would_be_endless(service: Service) -> None:
    api = await service.api()
    problem = await api.refusal("POST", "/v1/tasks/batch", {"tasks": [{"type": 5}] * 10_000})
    assert len(problem["errors"]) == 50
    assert "(and 9999 more)" in problem["detail"]


async def test_answer_stays_small_when_flaws_and_keys_are_endless(service: Service) -> None:
    api = await service.api()
    body = {"type": "echo", "payload": {"k" * 100_000: ["\x00"] * 50_000}}
    answer = await api.ask("POST", "/v1/tasks", body)
    assert (answer.status, len(answer.body["errors"])) == (422, 50)
    assert int(answer.headers["Content-Length"]) < 50_000


async def test_payload_is_refused_when_it_is_over_the_limit(service: Service) -> None:
    api = await service.api(api_max_payload_bytes=100)
    overhead = len('{"a":""}')
    await api.submit("echo", payload={"a": "x" * (100 - overhead)})
    problem = await api.refusal("POST", "/v1/tasks", {"type": "echo", "payload": {"a": "x" * (101 - overhead)}})
    assert problem["errors"] == [{"pointer": "#/payload", "detail": "has 101 bytes; API_MAX_PAYLOAD_BYTES allows 100"}]
    # Bytes count, not characters.
    problem = await api.refusal("POST", "/v1/tasks", {"type": "echo", "payload": {"a": "ä" * (99 - overhead)}})
    assert problem["errors"][0]["pointer"] == "#/payload"


async def test_payload_comes_back_unchanged_when_its_numbers_are_huge(service: Service) -> None:
    api = await service.api()
    task = await api.submit("echo", payload={"a": HUGE, "b": -HUGE, "c": 2**64, "d": 1e308})
    assert (await api.get(task["id"]))["payload"] == {"a": HUGE, "b": -HUGE, "c": 2**64, "d": 1e308}


async def test_batch_comes_back_in_order_when_it_is_the_largest(service: Service) -> None:
    api = await service.api()
    priorities = ("high", "medium", "low")
    wanted = [{"type": "echo", "payload": {"n": n}, "priority": priorities[n % 3]} for n in range(10_000)]
    tasks = await api.submit_batch(wanted)
    assert [task["payload"]["n"] for task in tasks] == list(range(10_000))
    assert len({task["id"] for task in tasks}) == 10_000
    counts = await service.query(
        "SELECT work_queue, sum(cardinality(task_ids)), max(cardinality(task_ids)) <= 1000"
        " FROM aftercommit.outbox_rows GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row) for row in counts] == [
        ("tasks.high", 3334, True),
        ("tasks.low", 3333, True),
        ("tasks.medium", 3333, True),
    ]


async def test_batch_is_refused_when_its_size_is_out_of_bounds(service: Service) -> None:
    api = await service.api()
    for size in (0, 10_001):
        problem = await api.refusal("POST", "/v1/tasks/batch", {"tasks": [{"type": "echo"}] * size})
        assert [error["pointer"] for error in problem["errors"]] == ["#/tasks"]
    assert await service.query("SELECT id FROM aftercommit.tasks") == []


async def test_nothing_of_a_batch_is_committed_when_one_of_its_tasks_is_bad(service: Service) -> None:
    api = await service.api(api_max_payload_bytes=100)
    good: dict[str, Any] = {"type": "echo"}
    for bad, field in (({"payload": {"a": "x" * 200}}, "payload"), ({"queue": "nowhere"}, "queue")):
        wanted = [good] * 7 + [good | bad] + [good]
        problem = await api.refusal("POST", "/v1/tasks/batch", {"tasks": wanted})
        assert [error["pointer"] for error in problem["errors"]] == [f"#/tasks/7/{field}"]
    assert (
        await service.query(
            "SELECT id::text FROM aftercommit.tasks UNION ALL SELECT id::text FROM aftercommit.outbox_rows"
        )
        == []
    )


async def test_number_of_statements_does_not_grow_with_the_batch(service: Service, sent: list[str]) -> None:
    api = await service.api()
    for size in (1, 10, 1_000):
        await api.submit_batch([{"type": "echo"}] * size)
    # Wake-up calls, health checks and what the start announces are off the path.
    submits = [statement for statement in sent if "INSERT INTO aftercommit.tasks" in statement]
    assert len(submits) == 3
    assert len(set(submits)) == 1
