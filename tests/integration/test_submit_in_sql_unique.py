"""Unique keys of tasks that are submitted in the caller's transaction, beside those over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from aftercommit.core.states import FINAL, WAITING, Status
from aftercommit.db.database import DatabaseConnection
from aftercommit.server.submission.unique_input import UniqueIn
from aftercommit.server.submission.unique_key import uniqueness
from tests.integration.callers import calling, counts, know, refusal
from tests.integration.rows import add_tasks, ids
from tests.integration.service import Service
from tests.integration.unique import claim, count, end, made, sent
from tests.integration.unique import submit as submit_over_http

ISOLATIONS = ("read committed", "repeatable read", "serializable")
CONFLICTS = ("40001", "40P01")
HASH = "SELECT uniqueness ->> 'hash' FROM aftercommit.tasks WHERE id = $1"

KEYS: list[dict[str, Any]] = [
    {"unique": {"key": "order-17"}},
    {"unique": {"key": 'quote " and \\ and / and \t\n\r\b\f\x01\x7f'}},
    {"unique": {"key": "ä \u20ac \U0001f600"}},
    {"unique": {"key": "k", "scope": "queue"}},
    {"unique": {"key": "k", "scope": "global"}},
    {"unique": {"fields": ["b", "a", "ä.c", "b"]}, "payload": {"a": 1, "b": "x", "ä": {"c": None}}},
    {"unique": {"fields": ["a", "b"]}, "payload": {"a": True, "b": False}},
]
NUMBERS = (
    *(0, -0.0, 5, 5.0, -5, 2**53 + 1, 10**30, 1e22, 0.1, -0.5, 1.10, 1e-5, 1e-7, 1.5e-10, 1e-300, 5e-324),
    *(123456789.125, 1234567890123456.5, 4503599627370497.5, 0.1 + 0.2, 1 / 3, 100.0, 0.0001, 0.00001234),
)
KEYS += [{"unique": {"fields": ["n"]}, "payload": {"n": number}} for number in NUMBERS]


@pytest.fixture
async def caller(service: Service) -> AsyncIterator[asyncpg.Connection]:
    await know(service)
    async with calling(service) as connection:
        yield connection


async def submit(caller: asyncpg.Connection, unique: dict[str, Any] | None = None, **fields: Any) -> UUID:
    task = {"type": "echo", "unique": {"key": "k"} | (unique or {}), **fields}
    found = await caller.fetchval("SELECT aftercommit.submit_tasks($1::text::jsonb)", json.dumps([task]))
    return UUID(str(found))


async def submit_many(caller: asyncpg.Connection, *tasks: dict[str, Any]) -> list[UUID]:
    wanted = [{"type": "echo", "unique": {"key": "k"}} | task for task in tasks]
    rows = await caller.fetch("SELECT aftercommit.submit_tasks($1::text::jsonb)", json.dumps(wanted))
    return [UUID(str(row[0])) for row in rows]


async def test_key_is_the_one_that_a_request_over_http_has(caller: asyncpg.Connection) -> None:
    for fields in KEYS:
        task = {"type": "email.send", **fields}
        task_id = await caller.fetchval("SELECT aftercommit.submit_tasks($1::text::jsonb)", json.dumps([task]))
        expected = uniqueness(
            UniqueIn.model_validate(fields["unique"]),
            type="email.send",
            queue="tasks",
            payload=json.loads(json.dumps(fields.get("payload", {}))),
        )
        assert await caller.fetchval(HASH, task_id) == expected.key.hex(), fields


async def test_key_that_is_held_over_http_is_held_in_sql_and_the_other_way_round(
    service: Service, caller: asyncpg.Connection
) -> None:
    api = await service.api()
    over_http = await made(api, {"key": "a"})
    assert str(await submit(caller, {"key": "a"})) == over_http
    in_sql = await submit(caller, {"key": "b"})
    answer = await submit_over_http(api, {"key": "b"})
    assert (answer.status, answer.body["id"], answer.body["submission"]) == (200, str(in_sql), "existing")
    assert await count(service) == 2


async def test_key_that_is_held_is_refused_when_the_call_says_so(service: Service, caller: asyncpg.Connection) -> None:
    holder = await submit(caller)
    task = json.dumps([{"type": "echo", "unique": {"key": "k", "on_conflict": "reject"}}])
    statement = "SELECT aftercommit.submit_tasks($1::text::jsonb)"
    assert await refusal(caller, statement, task) == ("AC004", "tasks/0/unique")
    with pytest.raises(asyncpg.PostgresError, match=f"task {holder} holds this key"):
        await caller.fetch(
            """SELECT aftercommit.submit_task('echo', "unique" => '{"key": "k", "on_conflict": "reject"}')"""
        )
    twice = json.dumps([{"type": "echo", "unique": {"key": "other", "on_conflict": "reject"}}] * 2)
    assert await refusal(caller, statement, twice) == ("AC004", "tasks/1/unique")
    assert await counts(service) == (1, 1, 0, 1)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("while_", ["waiting", "unfinished"])
async def test_task_holds_its_key_in_the_states_that_it_was_submitted_for(
    service: Service, caller: asyncpg.Connection, status: Status, while_: str
) -> None:
    (task_id,) = ids(1)
    await add_tasks(service, [task_id], status, worker="worker")
    key = uniqueness(UniqueIn(key="k"), type="echo", queue="tasks", payload={}).key
    await service.query(
        "INSERT INTO aftercommit.unique_keys (key, task_id, held_while) VALUES (:key, :id, :held_while)",
        key=key,
        id=task_id,
        held_while=while_,
    )
    holds = status in WAITING or (status is Status.RUNNING and while_ == "unfinished")
    found = await submit(caller)
    assert (found == task_id) == holds
    (row,) = await service.query("SELECT task_id FROM aftercommit.unique_keys")
    assert row.task_id == found


async def test_key_is_held_for_a_time_whatever_becomes_of_the_task(
    service: Service, caller: asyncpg.Connection
) -> None:
    holder = await submit(caller, {"for_seconds": 3600})
    await service.query("UPDATE aftercommit.tasks SET status = 'succeeded', finished_at = now()")
    assert await submit(caller, {"for_seconds": 3600}) == holder
    await service.query("UPDATE aftercommit.unique_keys SET held_until = now()")
    assert await submit(caller, {"for_seconds": 3600}) != holder


async def test_task_past_its_deadline_holds_its_key_until_no_claim_can_start_it(
    service: Service, caller: asyncpg.Connection
) -> None:
    holder = await submit(caller)
    await service.query("UPDATE aftercommit.tasks SET expires_at = now() - interval '20 seconds'")
    assert await submit(caller) == holder
    await service.query("UPDATE aftercommit.tasks SET expires_at = now() - interval '26 seconds'")
    assert await submit(caller) != holder


# --- replace

REPLACE = {"on_conflict": "replace"}


@pytest.mark.parametrize("status", Status)
async def test_holder_is_replaced_only_while_it_waits(
    service: Service, caller: asyncpg.Connection, status: Status
) -> None:
    holder = await submit(caller, {"for_seconds": 3600})
    scheduled, final = status is Status.SCHEDULED, status in FINAL
    await service.query(
        "UPDATE aftercommit.tasks SET status = :status, enqueued = NOT :scheduled, dispatch = (NOT :scheduled)::int,"
        " due_at = CASE WHEN :scheduled THEN now() END, finished_at = CASE WHEN :final THEN now() END,"
        " error = CASE WHEN :failed THEN '{}'::json END",
        status=status,
        scheduled=scheduled,
        final=final,
        failed=final and status is not Status.SUCCEEDED,
    )
    assert await submit(caller, REPLACE, payload={"n": 2}) == holder
    (row,) = await service.query("SELECT status, payload::text AS payload FROM aftercommit.tasks")
    replaced = status in WAITING
    assert row.status == (Status.QUEUED if replaced else status)
    assert json.loads(row.payload) == ({"n": 2} if replaced else {})


async def test_replacement_in_the_same_work_queue_keeps_the_message(
    service: Service, caller: asyncpg.Connection
) -> None:
    holder = await submit(caller)
    assert await submit(caller, REPLACE, payload={"n": 2}, tags=["a"], max_retries=7) == holder
    assert await sent(service) == {"tasks.medium": [1]}
    (row,) = await service.query("SELECT payload::text AS payload, tags, max_retries, dispatch FROM aftercommit.tasks")
    assert (json.loads(row.payload), row.tags, row.max_retries, row.dispatch) == ({"n": 2}, ["a"], 7, 1)


async def test_replacement_in_another_work_queue_is_sent_anew(service: Service, caller: asyncpg.Connection) -> None:
    await submit(caller)
    await submit(caller, REPLACE, priority="high")
    assert await sent(service) == {"tasks.medium": [1], "tasks.high": [2]}


async def test_replaced_task_waits_and_is_due_at_most_so_long_after_it_took_its_key(
    service: Service, caller: asyncpg.Connection
) -> None:
    bounded = REPLACE | {"at_most_seconds": 60}
    holder = await submit(caller, bounded, delay_seconds=30)
    for _ in range(3):
        assert await submit(caller, bounded, delay_seconds=50) == holder
    (row,) = await service.query(
        "SELECT status, dispatch, due_at - created_at AS wait, k.held_since = t.created_at AS since_creation"
        " FROM aftercommit.tasks t JOIN aftercommit.unique_keys k ON k.task_id = t.id"
    )
    assert (row.status, row.dispatch, row.since_creation) == ("scheduled", 0, True)
    assert timedelta(seconds=49) < row.wait <= timedelta(seconds=60)
    await service.query("UPDATE aftercommit.unique_keys SET held_since = now() - interval '61 seconds'")
    assert await submit(caller, bounded, delay_seconds=50) == holder
    assert await sent(service) == {"tasks.medium": [1]}


async def test_running_holder_is_neither_replaced_nor_waited_for(service: Service, caller: asyncpg.Connection) -> None:
    holder = await submit(caller)
    async with DatabaseConnection(service.settings, application="test") as connection:
        assert await claim(connection, str(holder))
        assert await submit(caller, REPLACE, payload={"n": 2}) == holder
        await end(connection, str(holder))
    assert await submit(caller, REPLACE) != holder


async def test_tasks_of_one_batch_with_one_key_are_one_task_and_the_last_replacement_counts(
    service: Service, caller: asyncpg.Connection
) -> None:
    found = await submit_many(
        caller,
        {"payload": {"n": 1}},
        {"payload": {"n": 2}},
        {"payload": {"n": 3}, "unique": {"key": "k"} | REPLACE, "priority": "high"},
        {"payload": {"n": 4}, "unique": {"key": "other"}},
        {"payload": {"n": 5}},
    )
    assert found[0] == found[1] == found[2] == found[4] != found[3]
    rows = await service.query("SELECT id, payload ->> 'n' AS n, priority FROM aftercommit.tasks ORDER BY id")
    assert [tuple(row) for row in rows] == [(found[0], "3", "high"), (found[3], "4", "medium")]
    assert await sent(service) == {"tasks.high": [1], "tasks.medium": [1]}
    again = await submit_many(
        caller,
        {"payload": {"n": 6}, "unique": {"key": "k"} | REPLACE},
        {"payload": {"n": 7}, "unique": {"key": "k"} | REPLACE},
    )
    assert again == [found[0]] * 2
    rows = await service.query("SELECT payload ->> 'n' AS n, dispatch FROM aftercommit.tasks ORDER BY id")
    assert [tuple(row) for row in rows] == [("7", 2), ("4", 1)]


async def test_second_call_of_a_transaction_finds_the_task_of_the_first(
    service: Service, caller: asyncpg.Connection
) -> None:
    async with caller.transaction():
        first = await submit(caller, payload={"n": 1})
        assert await submit(caller) == first
        assert await submit(caller, REPLACE, payload={"n": 2}) == first
    (row,) = await service.query("SELECT payload ->> 'n' AS n FROM aftercommit.tasks")
    assert row.n == "2"
    assert await sent(service) == {"tasks.medium": [1]}


async def test_key_of_a_transaction_that_rolls_back_is_free(service: Service, caller: asyncpg.Connection) -> None:
    transaction = caller.transaction()
    await transaction.start()
    await submit(caller)
    await transaction.rollback()
    await submit(caller, {"on_conflict": "reject"})
    assert await count(service) == 1


async def test_call_that_is_repeated_with_its_idempotency_key_is_answered_although_its_task_holds_the_key(
    service: Service, caller: asyncpg.Connection
) -> None:
    statement = """SELECT aftercommit.submit_task(
        'echo', "unique" => '{"key": "k", "on_conflict": "reject"}', idempotency_key => 'i')"""
    first = await caller.fetchval(statement)
    assert await caller.fetchval(statement) == first
    assert await count(service) == 1


# --- Side by side


async def hammer(service: Service, isolation: Any, on_conflict: str) -> int:
    """How many transactions had to be tried again."""
    again = 0
    unique = {"on_conflict": on_conflict}

    async def call(number: int) -> None:
        nonlocal again
        async with calling(service) as connection:
            for turn in range(10):
                while True:
                    try:
                        async with connection.transaction(isolation=isolation):
                            await connection.fetchval("SELECT count(*) FROM pg_class")  # takes the snapshot
                            await submit(connection, unique, payload={"n": number * 100 + turn})
                            break
                    except asyncpg.PostgresError as error:
                        if error.sqlstate in CONFLICTS:
                            again += 1
                            continue
                        if error.sqlstate != "AC004":
                            raise
                        break
                await service.query(
                    "UPDATE aftercommit.tasks SET status = 'succeeded', finished_at = now(), result = 'null'"
                    " WHERE status = 'queued' AND random() < 0.3"
                )

    await asyncio.gather(*(call(number) for number in range(6)))
    return again


@pytest.mark.parametrize("on_conflict", ["return_existing", "reject", "replace"])
@pytest.mark.parametrize("isolation", [each.replace(" ", "_") for each in ISOLATIONS])
async def test_key_never_has_two_holders_whatever_the_isolation(
    service: Service, caller: asyncpg.Connection, isolation: str, on_conflict: str
) -> None:
    # It sees what a snapshot does not.
    await caller.execute(
        "CREATE UNIQUE INDEX one_holder ON aftercommit.tasks ((uniqueness ->> 'hash')) WHERE status = 'queued'"
    )
    again = await hammer(service, isolation, on_conflict)
    assert again == 0 or isolation != "read_committed"
    assert await count(service, "status = 'queued'") <= 1


@pytest.mark.parametrize("isolation", [each.replace(" ", "_") for each in ISOLATIONS])
async def test_transaction_whose_snapshot_is_older_than_the_holder_takes_no_second_one(
    service: Service, caller: asyncpg.Connection, isolation: Any
) -> None:
    transaction = caller.transaction(isolation=isolation)
    await transaction.start()
    await caller.fetchval("SELECT count(*) FROM pg_class")
    async with calling(service) as other:
        holder = await submit(other)
    if isolation == "read_committed":
        assert await submit(caller) == holder
    else:
        with pytest.raises(asyncpg.SerializationError):
            await submit(caller)
    await transaction.rollback()
    assert await count(service) == 1


@pytest.mark.parametrize("isolation", [each.replace(" ", "_") for each in ISOLATIONS])
async def test_transaction_whose_snapshot_is_older_than_the_end_of_the_holder_takes_no_second_one(
    service: Service, caller: asyncpg.Connection, isolation: Any
) -> None:
    """The holder ends and another one takes the key, after the snapshot."""
    first = await submit(caller)
    transaction = caller.transaction(isolation=isolation)
    await transaction.start()
    await caller.fetchval("SELECT count(*) FROM pg_class")
    await service.query("UPDATE aftercommit.tasks SET status = 'cancelled', finished_at = now(), error = '{}'")
    async with calling(service) as other:
        second = await submit(other)
    assert second != first
    if isolation == "read_committed":
        assert await submit(caller) == second
    else:
        with pytest.raises(asyncpg.SerializationError):
            await submit(caller)
    await transaction.rollback()
    assert await count(service, "status = 'queued'") == 1


async def test_callers_and_requests_side_by_side_make_one_task(service: Service) -> None:
    api = await service.api()
    await know(service)

    async def call() -> str:
        async with calling(service) as connection, connection.transaction():
            return str(await submit(connection))

    async def request() -> str:
        return str((await submit_over_http(api)).body["id"])

    found = await asyncio.gather(*(call() if n % 2 else request() for n in range(16)))
    assert len(set(found)) == 1
    assert await count(service) == 1
