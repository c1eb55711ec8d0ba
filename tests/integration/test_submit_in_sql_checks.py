"""What a submit must not say: SQL refuses it for the same field as HTTP, with an SQLSTATE of its own."""

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.integration.callers import calling, counts, know, refusal
from tests.integration.service import Service
from tests.integration.test_api_submit import BAD_FIELDS

SUBMIT = "SELECT aftercommit.submit_tasks($1::text::jsonb)"

NOT_JSONB = ("NaN", "Infinity", "\\u0000", "\\ud800", "\\udfff")
"""Postgres refuses these before the function is called."""

YEAR = 366 * 86_400
MORE_BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"payload": {"a": "x" * 262_144}}, "payload"),
    ({"tags": ["a" * 101]}, "tags/0"),
    ({"tags": None}, "tags"),
    ({"retry": {"backoff": {"initial_seconds": 1, "more": 1}}}, "retry/backoff/more"),
    ({"retry": {"backoff": {"initial_seconds": None}}}, "retry/backoff/initial_seconds"),
    ({"retry": {"delays_seconds": 5}}, "retry/delays_seconds"),
    ({"run_at": "2031-01-01T00:00:00"}, "run_at"),
    ({"run_at": "2031-01-01"}, "run_at"),
    ({"run_at": "2031-02-30T00:00:00Z"}, "run_at"),
    ({"run_at": "2031-01-01T25:00:00Z"}, "run_at"),
    ({"run_at": "tomorrow"}, "run_at"),
    ({"run_at": "infinity"}, "run_at"),
    ({"run_at": 1_900_000_000}, "run_at"),
    ({"run_at": "9999-12-31T23:59:59-12:00"}, "run_at"),
    ({"run_at": "2031-01-01T00:00:00Z", "delay_seconds": 1}, "delay_seconds"),
    ({"delay_seconds": -0.1}, "delay_seconds"),
    ({"delay_seconds": 4e9}, "delay_seconds"),
    ({"delay_seconds": "5"}, "delay_seconds"),
    ({"delay_seconds": True}, "delay_seconds"),
    ({"expires_at": "2000-01-01T00:00:00Z"}, "expires_at"),
    ({"expires_at": "2031-01-01T00:00:00Z", "expires_in_seconds": 5}, "expires_at"),
    ({"expires_at": "2031-01-01T00:00:00Z", "run_at": "2031-01-01T00:00:00Z"}, "expires_at"),
    ({"expires_in_seconds": 0}, "expires_in_seconds"),
    ({"expires_in_seconds": 5, "delay_seconds": 5}, "expires_in_seconds"),
    ({"expires_in_seconds": 101 * YEAR}, "expires_in_seconds"),
    ({"unique": 5}, "unique"),
    ({"unique": {}}, "unique"),
    ({"unique": {"key": None}}, "unique"),
    ({"unique": {"key": ""}}, "unique/key"),
    ({"unique": {"key": "k" * 501}}, "unique/key"),
    ({"unique": {"key": 5}}, "unique/key"),
    ({"unique": {"key": "k", "fields": ["a"]}}, "unique/fields"),
    ({"unique": {"fields": []}}, "unique/fields"),
    ({"unique": {"fields": ["a"] * 21}}, "unique/fields"),
    ({"unique": {"fields": [5]}}, "unique/fields/0"),
    ({"unique": {"fields": ["a", "b"]}, "payload": {"a": 1}}, "unique/fields/1"),
    ({"unique": {"fields": ["a.0"]}, "payload": {"a": [1]}}, "unique/fields/0"),
    ({"unique": {"fields": ["a"]}, "payload": {"a": [1]}}, "unique/fields/0"),
    ({"unique": {"fields": ["a"]}, "payload": {"a": "x" * 501}}, "unique/fields/0"),
    ({"unique": {"key": "k", "scope": None}}, "unique/scope"),
    ({"unique": {"key": "k", "scope": "all"}}, "unique/scope"),
    ({"unique": {"key": "k", "while": "running"}}, "unique/while"),
    ({"unique": {"key": "k", "for_seconds": 0}}, "unique/for_seconds"),
    ({"unique": {"key": "k", "for_seconds": 101 * YEAR}}, "unique/for_seconds"),
    ({"unique": {"key": "k", "for_seconds": 5, "while": "waiting"}}, "unique/for_seconds"),
    ({"unique": {"key": "k", "on_conflict": "ignore"}}, "unique/on_conflict"),
    ({"unique": {"key": "k", "at_most_seconds": 5}}, "unique/at_most_seconds"),
    ({"unique": {"key": "k", "more": 5}}, "unique/more"),
]


@pytest.fixture
async def caller(service: Service) -> AsyncIterator[asyncpg.Connection]:
    await know(service)
    async with calling(service) as connection:
        yield connection


async def test_what_http_refuses_is_refused_for_the_same_field(service: Service, caller: asyncpg.Connection) -> None:
    for task, pointer in BAD_FIELDS:
        given = f'[{{"type": "echo"}}, {task}]'
        if any(part in task for part in NOT_JSONB):
            with pytest.raises(asyncpg.DataError):
                await caller.fetch(SUBMIT, given)
            continue
        state, column = await refusal(caller, SUBMIT, given)
        # Of a payload it says no more.
        expected = "/payload" if pointer.startswith("#/payload/") else pointer[1:]
        assert (state, column) == ("AC002" if pointer == "#/queue" else "AC001", f"tasks/1{expected}"), task
    assert await counts(service) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("fields", "field"), MORE_BAD_FIELDS, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_field_is_refused_over_http_and_in_sql(
    service: Service, caller: asyncpg.Connection, fields: dict[str, Any], field: str
) -> None:
    task = {"type": "echo", **fields}
    api = await service.api()
    problem = await api.refusal("POST", "/v1/tasks", task)
    assert f"#/{field}" in [flaw["pointer"] for flaw in problem["errors"]]
    state, column = await refusal(caller, SUBMIT, json.dumps([task]))
    assert (state, column) == ("AC003" if "payload" in fields and field == "payload" else "AC001", f"tasks/0/{field}")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("NULL", ("AC001", "type")),
        ("''", ("AC001", "type")),
        ("'echo', '[]'", ("AC001", "payload")),
        ("'echo', 'null'", ("AC001", "payload")),
        ("'echo', queue => 'nowhere'", ("AC002", "queue")),
        ("'echo', priority => 'urgent'", ("AC001", "priority")),
        ("'echo', max_retries => -1", ("AC001", "max_retries")),
        ("'echo', timeout_seconds => 'NaN'", ("AC001", "timeout_seconds")),
        ("'echo', timeout_seconds => 0", ("AC001", "timeout_seconds")),
        ("'echo', tags => '{a,NULL}'", ("AC001", "tags/1")),
        ("'echo', tags => '{{a,b},{c,d}}'", ("AC001", "tags/0")),
        ("'echo', retry => '[]'", ("AC001", "retry")),
        ("'echo', result_ttl_seconds => 'Infinity'", ("AC001", "result_ttl_seconds")),
        ("'echo', run_at => 'infinity'", ("AC001", "run_at")),
        ("'echo', run_at => '10000-01-01 00:00:00+00'", ("AC001", "run_at")),
        ("'echo', run_at => '0044-03-15 12:00:00+00 BC'", ("AC001", "run_at")),
        ("'echo', run_at => now(), delay_seconds => 1", ("AC001", "delay_seconds")),
        ("'echo', delay_seconds => -1", ("AC001", "delay_seconds")),
        ("'echo', expires_at => now()", ("AC001", "expires_at")),
        ("'echo', expires_in_seconds => 0", ("AC001", "expires_in_seconds")),
        ("'echo', \"unique\" => '{}'", ("AC001", "unique")),
        ("'echo', idempotency_key => ''", ("AC001", "idempotency_key")),
        ("'echo', idempotency_key => 'ä'", ("AC001", "idempotency_key")),
        ("'echo', idempotency_key => repeat('k', 201)", ("AC001", "idempotency_key")),
    ],
)
async def test_argument_that_does_not_fit_is_named(
    service: Service, caller: asyncpg.Connection, arguments: str, expected: tuple[str, str]
) -> None:
    assert await refusal(caller, f"SELECT aftercommit.submit_task({arguments})") == expected
    assert await counts(service) == (0, 0, 0, 0)


async def test_null_stands_for_the_default(service: Service, caller: asyncpg.Connection) -> None:
    nothing = ", ".join(["NULL"] * 14)
    await caller.fetchval(f"SELECT aftercommit.submit_task('echo', {nothing})")
    (task,) = await service.query(
        "SELECT queue, priority, payload::text AS payload, tags, max_retries FROM aftercommit.tasks"
    )
    assert tuple(task) == ("tasks", "medium", "{}", [], None)


async def test_payload_is_refused_when_it_is_nested_too_deep(service: Service, caller: asyncpg.Connection) -> None:
    def nested(levels: int) -> str:
        return '[{"type": "echo", "payload": {"a": ' + "[" * levels + "]" * levels + "}}]"

    await caller.fetch(SUBMIT, nested(98))
    assert await refusal(caller, SUBMIT, nested(102)) == ("AC001", "tasks/0/payload")


async def test_error_tells_what_to_do(caller: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.PostgresError) as caught:
        await caller.fetch("SELECT aftercommit.submit_task('echo', queue => 'nowhere')")
    error: Any = caught.value
    assert error.message == "queue: there is no queue 'nowhere': there is tasks"
    assert error.hint == "Take one of these, or make it: PUT /v1/queues/<name>."
