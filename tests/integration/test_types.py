"""Task types: what workers declare of their handlers, and submits that do not fit it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import jsonschema_rs
import pytest
import structlog
from pydantic import BaseModel, Field

from aftercommit import AsyncClient, Handler, task
from aftercommit.client import InvalidRequest, TypeNotFound
from aftercommit.core.setting_types import SchemaCheck
from aftercommit.db.database import DatabaseConnection
from aftercommit.runtime.notifier import Notifier
from aftercommit.worker.declared_types import declare_types
from tests.integration.callers import calling, refusal
from tests.integration.service import Api, Service

BAD: list[tuple[dict[str, Any], str, str]] = [
    ({}, "payload", '"to" is a required property'),
    ({"to": 5}, "payload/to", 'this value is not of type "string"'),
    ({"to": "a", "lines": [{"sku": "x", "count": 0}]}, "payload/lines/0/count", "less than the minimum of 1"),
    ({"to": "a", "cc": "b"}, "payload", "Additional properties are not allowed"),
]


class Line(BaseModel):
    sku: str
    count: int = Field(default=1, ge=1)


@task("mail.send", max_retries=2)
async def send(to: str, lines: tuple[Line, ...] = ()) -> None:
    """Send one mail.

    More of it."""


@task("mail.send")
async def send_nothing() -> None: ...


async def declare(service: Service, *handlers: Handler) -> None:
    """What a worker with these handlers does when it starts, but for the notification."""

    def connect() -> DatabaseConnection:
        return DatabaseConnection(service.settings, application="test")

    await declare_types(handlers, connect, Notifier(connect()))


@asynccontextmanager
async def savepoint(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """What fails in the block is undone, and the transaction goes on."""
    inner = connection.transaction()
    await inner.start()
    yield
    await inner.rollback()


async def until_known(api: Api, type: str) -> None:
    """The API follows by itself: until then it says that nothing is known, or not the type."""
    async with asyncio.timeout(30):
        while True:
            _, answer = await api.call("POST", "/v1/tasks", {"type": type, "payload": {"no": "such key"}})
            if [each for each in answer["errors"] if each["pointer"].startswith("#/payload")]:
                return
            await asyncio.sleep(0.05)


@pytest.fixture
async def caller(service: Service) -> AsyncIterator[asyncpg.Connection]:
    async with calling(service) as connection:
        yield connection


async def test_workers_declare_what_their_handlers_take(service: Service) -> None:
    api = await service.api()
    worker = await service.worker()
    await service.until("SELECT count(*) > 20 FROM aftercommit.task_types")
    async with AsyncClient(api.url) as client:
        listed = {each.type: each async for each in client.list_types(page_size=3)}
        assert list(listed) == sorted(listed)
        slept = listed["test.sleep"]
        assert await client.get_type("test.sleep") == slept
        assert slept.payload_schema is not None
        assert slept.payload_schema["properties"] == {"seconds": {"title": "Seconds", "type": "number"}}
        assert (len(slept.workers), slept.options.max_retries) == (1, None)
        await worker.stop()
        assert (await client.get_type("test.sleep")).workers == ()
        with pytest.raises(TypeNotFound, match="No worker has declared 'no/such'"):
            await client.get_type("no/such")


async def test_only_what_changed_is_declared_anew(service: Service) -> None:
    await declare(service, send)
    (before,) = await service.query("SELECT xmin::text, description, options FROM aftercommit.task_types")
    assert (before.description, before.options["max_retries"]) == ("Send one mail.", 2)
    await declare(service, send)
    (after,) = await service.query("SELECT xmin::text, description, options FROM aftercommit.task_types")
    assert after == before
    await declare(service, send_nothing)
    (changed,) = await service.query("SELECT schema, options FROM aftercommit.task_types")
    assert (changed.schema["properties"], changed.options["max_retries"]) == ({}, None)


async def test_payload_that_does_not_fit_is_refused_at_once(service: Service) -> None:
    await declare(service, send)
    api = await service.api(schema_check=SchemaCheck.REJECT)
    await until_known(api, "mail.send")
    good = {"type": "mail.send", "payload": {"to": "a", "lines": [{"sku": "x"}]}}
    for payload, field, problem in BAD:
        bad = {"type": "mail.send", "payload": payload}
        alone = await api.refusal("POST", "/v1/tasks", bad)
        assert alone["errors"][0]["pointer"] == f"#/{field}"
        assert problem in alone["errors"][0]["detail"]
        batch = await api.refusal("POST", "/v1/tasks/batch", {"tasks": [good, bad]})
        assert batch["errors"][0]["pointer"] == f"#/tasks/1/{field}"
    assert await service.query("SELECT id FROM aftercommit.tasks") == []
    await api.submit_batch([good])


async def test_unknown_type_is_refused_and_known_once_it_is_declared(service: Service) -> None:
    api = await service.api(schema_check=SchemaCheck.REJECT)
    async with asyncio.timeout(30), AsyncClient(api.url) as client:
        with pytest.raises(InvalidRequest, match=r"no worker has declared 'mail.send': none has declared any type yet"):
            await client.submit("mail.send", {"to": "a"})
        await service.worker()  # which notifies
        while (await api.call("POST", "/v1/tasks", {"type": "echo"}))[0] != 201:
            await asyncio.sleep(0.02)
        with pytest.raises(InvalidRequest, match=r"there are echo, http\.request, .* and \d+ more"):
            await client.submit("mail.send", {"to": "a"})
    refused = await api.refusal("PUT", "/v1/schedules/a", {"interval_seconds": 60, "task": {"type": "mail.send"}})
    assert refused["errors"][0]["pointer"] == "#/task/type"


async def test_by_default_it_is_taken_and_a_type_is_warned_of_once(service: Service) -> None:
    await declare(service, send)
    api = await service.api()
    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(30):
            while not (warned := [each for each in logs if each["event"] == "submit_does_not_fit"]):
                await api.submit("mail.send", payload={"to": 5})
        await api.submit("mail.send", payload={})
    assert len(warned) == 1
    assert warned[0].items() >= {"type": "mail.send", "field": "payload/to"}.items()


async def test_callers_in_sql_are_refused_alike_and_can_go_on(service: Service, caller: asyncpg.Connection) -> None:
    await declare(service, send)
    await service.api(schema_check=SchemaCheck.REJECT)
    await service.until("SELECT schema_check = 'reject' FROM aftercommit.shared_settings")
    statement = "SELECT aftercommit.submit_task('mail.send', $1::text::jsonb)"
    async with caller.transaction():
        for payload, field, _ in BAD:
            # SQL points at the key that is missing or too much.
            key = "/to" if not payload else "/cc" if "cc" in payload else ""
            async with savepoint(caller):
                assert await refusal(caller, statement, json.dumps(payload)) == ("AC007", f"{field}{key}")
        async with savepoint(caller):
            assert await refusal(caller, "SELECT aftercommit.submit_task('no.such')") == ("AC007", "type")
        await caller.fetchval(statement, '{"to": "a", "lines": [{"sku": "x", "count": 2}]}')
    assert len(await service.query("SELECT id FROM aftercommit.tasks")) == 1


KEYWORDS: list[tuple[Any, list[Any], list[Any]]] = [
    ({"type": "integer", "exclusiveMinimum": 0, "maximum": 9}, [1, 9, 2.0], [0, 10, 1.5, "1", None]),
    ({"type": "number", "multipleOf": 0.5}, [1, 1.5], [1.3, "x"]),
    ({"type": ["string", "null"], "minLength": 2, "maxLength": 3}, [None, "ab", "äöü"], ["a", "abcd", 1]),
    ({"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2}, [["a"]], [[], ["a", 1], [""] * 3]),
    ({"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False}, [["a", 1]], [[1], ["a", 1, 1]]),
    ({"type": "array", "uniqueItems": True}, [[1, 2], []], [[1, 1.0], [{}, {}]]),
    ({"enum": ["a", 1, None]}, ["a", 1, None], ["b", 2, [], True]),
    ({"const": {"a": 1}}, [{"a": 1}], [{"a": 2}, {}]),
    ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, ["a", 1], [1.5, None, []]),
    ({"oneOf": [{"type": "integer"}, {"minimum": 5}]}, [1, 5.5], [6, 1.5]),
    ({"allOf": [{"type": "integer"}, {"minimum": 5}]}, [5], [4, 5.5]),
    (
        {
            "$ref": "#/$defs/Node",
            "$defs": {"Node": {"properties": {"next": {"$ref": "#/$defs/Node"}}, "type": "object"}},
        },
        [{}, {"next": {"next": {}}}],
        [1, {"next": {"next": 1}}],
    ),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, [{"a": 1}], [{"a": "b"}]),
    ({"properties": {"a/b~": {"type": "integer"}}, "required": ["a/b~"]}, [{"a/b~": 1}], [{}, {"a/b~": "x"}]),
]


async def test_sql_and_http_judge_alike(caller: asyncpg.Connection) -> None:
    for schema, good, bad in KEYWORDS:
        validator = jsonschema_rs.validator_for(schema)
        for value in (*good, *bad):
            flaw = await caller.fetchval(
                "SELECT aftercommit.payload_flaw($1::text::jsonb, $2::text::jsonb, $2::text::jsonb, 'payload')",
                json.dumps(value),
                json.dumps(schema),
            )
            assert (flaw is None) == any(value is each for each in good) == validator.is_valid(value), (
                schema,
                value,
                flaw,
            )


@task("mail.routed", queue="mail", priority="high")
async def routed() -> None: ...


async def test_submit_that_names_no_queue_goes_where_its_type_says(service: Service) -> None:
    api = await service.api()
    await declare(service, routed)
    async with asyncio.timeout(10):
        while (await api.submit("mail.routed"))["queue"] != "mail":
            await asyncio.sleep(0.1)
    task = await api.submit("mail.routed")
    assert (task["queue"], task["priority"]) == ("mail", "high")
    own = await api.submit("mail.routed", queue="tasks", priority="low")
    assert (own["queue"], own["priority"]) == ("tasks", "low")
    assert (await api.submit("mail.routed", priority="medium"))["priority"] == "medium"
    async with calling(service) as connection:
        ids = [
            await connection.fetchval("SELECT aftercommit.submit_task('mail.routed')"),
            await connection.fetchval("SELECT aftercommit.submit_task('mail.routed', priority => 'low')"),
            await connection.fetchval("SELECT aftercommit.submit_task('mail.routed', queue => 'tasks')"),
            await connection.fetchval("SELECT aftercommit.submit_task('other')"),
        ]
    found = [await api.get(str(task_id)) for task_id in ids]
    assert [(each["queue"], each["priority"]) for each in found] == [
        ("mail", "high"),
        ("mail", "low"),
        ("tasks", "high"),
        ("tasks", "medium"),
    ]


async def test_type_whose_queue_is_gone_goes_to_the_default(service: Service) -> None:
    api = await service.api()
    await declare(service, routed)
    await service.query("UPDATE aftercommit.queues SET deleted_at = now() WHERE name = 'mail'")
    await asyncio.sleep(1)
    assert (await api.submit("mail.routed"))["queue"] == "tasks"
    await declare(service, routed)
    assert (await service.query("SELECT deleted_at IS NULL FROM aftercommit.queues WHERE name = 'mail'")) == [(False,)]
