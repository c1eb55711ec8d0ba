"""Tasks that are submitted in the caller's own transaction, by a function in the database."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from aftercommit.broker.topology import DEAD_LETTERS
from tests.integration.callers import ECHO, ORDERS, calling, counts, dsn_of, know, refusal
from tests.integration.service import Api, Service

KEPT = """
    SELECT type, queue, priority, status, dispatch, attempt, uncharged, max_retries, timeout_seconds, tags,
        payload::jsonb AS payload, enqueued, features, retry::jsonb AS retry, result_ttl_seconds, due_at,
        expires_at, schedule, uniqueness::jsonb AS uniqueness
    FROM aftercommit.tasks WHERE id = $1
"""


async def kept(caller: asyncpg.Connection, task_id: UUID | str) -> dict[str, Any]:
    """All of a task but its id and its times of the day."""
    row = await caller.fetchrow(KEPT, UUID(str(task_id)))
    assert row is not None
    return {
        name: json.loads(value) if name in ("payload", "retry", "uniqueness") and value else value
        for name, value in row.items()
    }


@pytest.fixture
async def caller(service: Service) -> AsyncIterator[asyncpg.Connection]:
    await know(service, "tasks", "emails")
    async with calling(service) as connection:
        await connection.execute(ORDERS)
        yield connection


async def test_task_runs_once_the_transaction_that_submitted_it_has_committed(
    service: Service, caller: asyncpg.Connection
) -> None:
    await service.relay()
    await service.worker()
    async with caller.transaction():
        await caller.execute("INSERT INTO orders VALUES (17)")
        task_id = await caller.fetchval("SELECT aftercommit.submit_task('echo', '{\"order\": 17}')")
        assert await counts(service) == (0, 0, 0, 0)
    await service.until_idle()
    (task,) = await service.query("SELECT id, status, attempt, result::text AS result FROM aftercommit.tasks")
    assert (task.id, task.status, task.attempt, json.loads(task.result)) == (task_id, "succeeded", 1, {"order": 17})


async def test_transaction_that_rolls_back_leaves_nothing(service: Service, caller: asyncpg.Connection) -> None:
    transaction = caller.transaction()
    await transaction.start()
    await caller.fetch(
        """SELECT aftercommit.submit_task('echo', "unique" => '{"key": "k"}', idempotency_key => 'k'),
        aftercommit.submit_tasks('[{"type": "echo"}, {"type": "echo", "delay_seconds": 5}]')"""
    )
    await transaction.rollback()
    assert await counts(service) == (0, 0, 0, 0)


async def test_transaction_goes_on_after_a_savepoint_when_a_task_was_refused(
    service: Service, caller: asyncpg.Connection
) -> None:
    async with caller.transaction():
        kept = await caller.fetchval(ECHO)
        await caller.execute(f"SAVEPOINT before; {ECHO}")
        with pytest.raises(asyncpg.PostgresError, match="queue: there is no queue 'nowhere': there are tasks, emails"):
            await caller.fetchval("SELECT aftercommit.submit_task('echo', queue => 'nowhere')")
        await caller.execute("ROLLBACK TO before")
        await caller.execute("INSERT INTO orders VALUES (1)")
    assert [row.id for row in await service.query("SELECT id FROM aftercommit.tasks")] == [kept]


@pytest.mark.parametrize(("end", "tasks"), [("COMMIT", 1), ("ROLLBACK", 0)])
async def test_prepared_transaction_has_its_task_when_it_is_committed(
    service: Service, caller: asyncpg.Connection, end: str, tasks: int
) -> None:
    name = f"test-{uuid4().hex}"
    await caller.execute(f"BEGIN; {ECHO}; PREPARE TRANSACTION '{name}'")
    assert await counts(service) == (0, 0, 0, 0)
    await caller.execute(f"{end} PREPARED '{name}'")
    assert await counts(service) == (tasks, tasks, 0, 0)


async def test_task_is_kept_as_over_http_when_every_field_is_given(
    service: Service, caller: asyncpg.Connection
) -> None:
    api = await service.api(queues=("tasks", "emails"))
    fields: dict[str, Any] = {
        "type": "email.send",
        "payload": {"to": "ada@example.com", "lines": [1, 2.5, None, True, {"ä": "\u20ac"}]},
        "queue": "emails",
        "priority": "high",
        "max_retries": 5,
        "timeout_seconds": 1.5,
        "tags": ["b", "a", "b"],
        "retry": {"backoff": {"initial_seconds": 1, "jitter": 0.5}},
        "result_ttl_seconds": 60,
        "run_at": "2031-01-01T00:00:00+01:00",
        "expires_at": "2032-01-01T00:00:00.5Z",
        "unique": {"fields": ["to"], "scope": "queue", "while": "waiting"},
    }
    over_http = await api.submit(**fields)
    await service.query("DELETE FROM aftercommit.unique_keys")  # so that others may have the same key
    in_batch = await caller.fetchval("SELECT aftercommit.submit_tasks($1::text::jsonb)", json.dumps([fields]))
    await service.query("DELETE FROM aftercommit.unique_keys")
    alone = await caller.fetchval(
        """SELECT aftercommit.submit_task(
            'email.send', $1::text::jsonb, 'emails', 'high', 5, 1.5, '{b,a,b}',
            '{"backoff": {"initial_seconds": 1, "jitter": 0.5}}', 60, '2031-01-01 00:00:00+01', NULL,
            '2032-01-01 00:00:00.5+00', NULL, '{"fields": ["to"], "scope": "queue", "while": "waiting"}'
        )""",
        json.dumps(fields["payload"]),
    )
    expected = await kept(caller, over_http["id"])
    assert await kept(caller, in_batch) == expected
    assert await kept(caller, alone) == expected
    assert (expected["status"], expected["tags"], expected["features"]) == ("scheduled", ["b", "a"], 1)


async def test_task_of_which_only_the_type_is_given_is_kept_as_over_http(
    service: Service, caller: asyncpg.Connection
) -> None:
    api = await service.api(queues=("tasks", "emails"))
    over_http = await api.submit("echo")
    expected = await kept(caller, over_http["id"])
    for statement in (ECHO, """SELECT aftercommit.submit_tasks('[{"type": "echo", "queue": null}]')"""):
        assert await kept(caller, await caller.fetchval(statement)) == expected
    rows = await service.query("SELECT work_queue, cardinality(task_ids), dispatches FROM aftercommit.outbox_rows")
    assert [tuple(row) for row in rows] == [("tasks.medium", 1, [1])] * 3


async def test_ids_are_those_of_the_moment_of_the_call_and_grow(service: Service, caller: asyncpg.Connection) -> None:
    async with caller.transaction():
        began_at = await caller.fetchval("SELECT now()")
        await asyncio.sleep(0.05)
        ids = [await caller.fetchval(ECHO) for _ in range(5)]
        ids += [row[0] for row in await caller.fetch("SELECT aftercommit.submit_tasks($1::text::jsonb)", batch(100))]
    assert ids == sorted(ids)
    assert {(UUID(str(each)).version, UUID(str(each)).variant) for each in ids} == {(7, "specified in RFC 4122")}
    milliseconds = [UUID(str(each)).int >> 80 for each in ids]
    assert milliseconds[0] - began_at.timestamp() * 1000 >= 49
    (row,) = await service.query(
        "SELECT min(created_at) AS first, bool_and(queued_at = created_at) AS same FROM aftercommit.tasks"
    )
    assert row.first - began_at >= timedelta(milliseconds=50)
    assert row.same


def batch(count: int, **fields: Any) -> str:
    return json.dumps([{"type": "echo", "payload": {"n": n}, **fields} for n in range(count)])


async def test_ids_of_the_largest_batch_come_in_its_order(service: Service, caller: asyncpg.Connection) -> None:
    priorities = ("high", "medium", "low")
    wanted = [{"type": "echo", "payload": {"n": n}, "priority": priorities[n % 3]} for n in range(10_000)]
    rows = await caller.fetch("SELECT aftercommit.submit_tasks($1::text::jsonb) AS id", json.dumps(wanted))
    numbers = await caller.fetch(
        "SELECT (payload ->> 'n')::int AS n FROM unnest($1::uuid[]) WITH ORDINALITY AS given (id, place)"
        " JOIN aftercommit.tasks USING (id) ORDER BY place",
        [row["id"] for row in rows],
    )
    assert [row["n"] for row in numbers] == list(range(10_000))
    found = await service.query(
        "SELECT work_queue, sum(cardinality(task_ids)), max(cardinality(task_ids)) <= 1000"
        " FROM aftercommit.outbox_rows GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row) for row in found] == [
        ("tasks.high", 3334, True),
        ("tasks.low", 3333, True),
        ("tasks.medium", 3333, True),
    ]


@pytest.mark.parametrize("given", ["null", "{}", "[]", batch(10_001)], ids=["null", "object", "none", "too many"])
async def test_batch_that_is_none_is_refused(caller: asyncpg.Connection, given: str) -> None:
    assert await refusal(caller, "SELECT aftercommit.submit_tasks($1::text::jsonb)", given) == ("AC001", "tasks")


async def test_nothing_of_a_batch_is_submitted_when_one_of_its_tasks_is_refused(
    service: Service, caller: asyncpg.Connection
) -> None:
    wanted = json.dumps([{"type": "echo"}, {"type": "echo", "queue": "nowhere"}])
    statement = "SELECT aftercommit.submit_tasks($1::text::jsonb)"
    assert await refusal(caller, statement, wanted) == ("AC002", "tasks/1/queue")
    assert await counts(service) == (0, 0, 0, 0)


async def test_task_with_a_time_is_sent_when_it_is_due(service: Service, caller: asyncpg.Connection) -> None:
    later = await caller.fetchval("SELECT aftercommit.submit_task('echo', delay_seconds => 0.5)")
    by_clock = await caller.fetchval("SELECT aftercommit.submit_task('echo', run_at => now() + interval '0.5 s')")
    assert await counts(service) == (2, 0, 0, 0)
    past = await caller.fetchval("SELECT aftercommit.submit_task('echo', run_at => '2000-01-01 00:00:00+00')")
    assert await counts(service) == (3, 1, 0, 0)
    await service.maintenance()
    await service.relay()
    await service.worker()
    await service.until_idle()
    rows = await service.query(
        "SELECT id, extract(epoch FROM first_started_at - created_at) AS waited FROM aftercommit.tasks"
    )
    waited = {row.id: float(row.waited) for row in rows}
    assert min(waited[later], waited[by_clock]) >= 0.49
    assert set(waited) == {later, by_clock, past}


async def test_deadline_ends_a_task_that_nobody_runs(service: Service, caller: asyncpg.Connection) -> None:
    await caller.fetchval("SELECT aftercommit.submit_task('echo', expires_in_seconds => 0.2)")
    await service.maintenance()
    await service.until("SELECT status = 'expired' FROM aftercommit.tasks")


async def test_failure_of_a_task_goes_the_way_of_every_other(service: Service, caller: asyncpg.Connection) -> None:
    await service.relay()
    await service.worker()
    await caller.fetchval("SELECT aftercommit.submit_task('test.fail_for_good')")
    await service.until_idle()
    channel = await (await service.declare()).open_channel()
    queue = await channel.declare_queue(DEAD_LETTERS, passive=True)
    assert queue.declaration_result.message_count == 1


async def test_tasks_are_relayed_soon_although_nobody_announces_them(
    service: Service, caller: asyncpg.Connection
) -> None:
    await service.relay(outbox_poll_interval=5.0)
    for _ in range(2):  # the first may come with the call that every relay gets at its start
        await caller.fetchval(ECHO)
        await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)")
    loop = asyncio.get_running_loop()
    for _ in range(10):
        started_at = loop.time()
        await caller.fetchval(ECHO)
        await service.until("SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)", seconds=4)
        assert loop.time() - started_at < 4  # less than the interval


# --- Idempotency


async def test_call_with_the_same_key_returns_the_first_task(service: Service, caller: asyncpg.Connection) -> None:
    statement = "SELECT aftercommit.submit_task('echo', '{\"n\": 1}', idempotency_key => 'k')"
    first = await caller.fetchval(statement)
    assert await caller.fetchval(statement) == first
    same = "SELECT aftercommit.submit_task(idempotency_key => 'k', payload => '{ \"n\" : 1 }', type => 'echo')"
    assert await caller.fetchval(same) == first
    assert await counts(service) == (1, 1, 1, 0)


async def test_batch_with_the_same_key_returns_the_first_tasks(service: Service, caller: asyncpg.Connection) -> None:
    statement = "SELECT aftercommit.submit_tasks($1::text::jsonb, 'k') AS id"
    first = await caller.fetch(statement, batch(3))
    assert await caller.fetch(statement, batch(3)) == first
    assert await refusal(caller, statement, batch(2)) == ("AC005", "idempotency_key")
    assert await counts(service) == (3, 1, 1, 0)


@pytest.mark.parametrize(
    "other",
    [
        "SELECT aftercommit.submit_task('echo', '{\"n\": 2}', idempotency_key => 'k')",
        "SELECT aftercommit.submit_task('echo', '{\"n\": 1}', priority => 'medium', idempotency_key => 'k')",
        'SELECT aftercommit.submit_tasks(\'[{"type": "echo", "payload": {"n": 1}}]\', \'k\')',
    ],
)
async def test_key_that_came_with_another_call_is_refused(caller: asyncpg.Connection, other: str) -> None:
    await caller.fetchval("SELECT aftercommit.submit_task('echo', '{\"n\": 1}', idempotency_key => 'k')")
    assert await refusal(caller, other) == ("AC005", "idempotency_key")


async def test_key_of_a_request_over_http_is_another_one_s(service: Service, caller: asyncpg.Connection) -> None:
    api = await service.api()
    header = {"Idempotency-Key": "http"}
    assert (await api.ask("POST", "/v1/tasks", {"type": "echo"}, headers=header)).status == 201
    statement = "SELECT aftercommit.submit_task('echo', idempotency_key => $1)"
    assert await refusal(caller, statement, "http") == ("AC005", "idempotency_key")
    await caller.fetchval(statement, "sql")
    problem = await api.refusal("POST", "/v1/tasks", {"type": "echo"}, headers={"Idempotency-Key": "sql"})
    assert problem["code"] == "idempotency-key-reused"


async def test_key_is_free_after_a_day_and_refused_when_its_task_was_deleted(
    service: Service, caller: asyncpg.Connection
) -> None:
    statement = "SELECT aftercommit.submit_task('echo', idempotency_key => 'k')"
    first = await caller.fetchval(statement)
    await service.query("UPDATE aftercommit.idempotency_keys SET created_at = now() - interval '25 hours'")
    second = await caller.fetchval(statement)
    assert second != first
    await service.query("DELETE FROM aftercommit.tasks")
    assert await refusal(caller, statement) == ("AC006", "idempotency_key")


async def test_calls_with_one_key_wait_for_each_other_and_make_one_task(service: Service) -> None:
    await know(service)

    async def call() -> UUID:
        async with calling(service) as connection, connection.transaction():
            task_id: UUID = await connection.fetchval("SELECT aftercommit.submit_task('echo', idempotency_key => 'k')")
            return task_id

    assert len(set(await asyncio.gather(*(call() for _ in range(8))))) == 1
    assert await counts(service) == (1, 1, 1, 0)


async def test_call_that_was_accepted_once_is_answered_although_its_deadline_has_passed(
    service: Service, caller: asyncpg.Connection
) -> None:
    statement = "SELECT aftercommit.submit_task('echo', expires_at => $1, idempotency_key => 'k')"
    deadline = datetime.now(UTC) + timedelta(seconds=0.3)
    first = await caller.fetchval(statement, deadline)
    await service.until(f"SELECT now() > '{deadline.isoformat()}'")
    assert await caller.fetchval(statement, deadline) == first


# --- Isolation

ISOLATIONS = ("read_committed", "repeatable_read", "serializable")


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_plain_tasks_of_many_transactions_are_submitted_under_every_isolation(
    service: Service, isolation: Any
) -> None:
    await know(service)

    async def call() -> None:
        async with calling(service) as connection:
            for _ in range(20):
                async with connection.transaction(isolation=isolation):
                    await connection.fetchval(ECHO)

    await asyncio.gather(*(call() for _ in range(4)))
    assert await counts(service) == (80, 80, 0, 0)


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_key_that_another_transaction_took_after_the_snapshot_makes_no_second_task(
    service: Service, caller: asyncpg.Connection, isolation: Any
) -> None:
    statement = "SELECT aftercommit.submit_task('echo', idempotency_key => 'k')"
    transaction = caller.transaction(isolation=isolation)
    await transaction.start()
    await caller.fetchval("SELECT count(*) FROM pg_class")
    async with calling(service) as other:
        first = await other.fetchval(statement)
    if isolation == "read_committed":
        assert await caller.fetchval(statement) == first
    else:
        with pytest.raises(asyncpg.SerializationError):
            await caller.fetchval(statement)
    await transaction.rollback()
    assert await counts(service) == (1, 1, 1, 0)


# --- What the functions know of the settings


async def test_no_queue_is_known_before_a_process_has_started(service: Service) -> None:
    async with calling(service) as connection:
        assert await refusal(connection, ECHO) == ("AC002", "queue")
        await service.maintenance(queues=("emails", "tasks"))
        await service.until("SELECT count(*) = 2 FROM aftercommit.queues")
        await connection.fetchval(ECHO)
    (task,) = await service.query("SELECT queue FROM aftercommit.tasks")
    assert task.queue == "emails"


async def test_queue_that_was_known_stays_so_after_the_named_ones(service: Service) -> None:
    for names in (("a", "b"), ("b", "c")):
        await know(service, *names)
    rows = await service.query("SELECT name, position FROM aftercommit.queues ORDER BY position, name")
    assert [tuple(row) for row in rows] == [("b", 1), ("c", 2), ("a", None)]


async def test_payload_has_the_limit_of_the_api_that_started_last(service: Service, caller: asyncpg.Connection) -> None:
    await service.api(api_max_payload_bytes=100)
    await service.until("SELECT max_payload_bytes = 100 FROM aftercommit.shared_settings")
    overhead = len('{"a": ""}')
    statement = "SELECT aftercommit.submit_task('echo', jsonb_build_object('a', repeat('ä', $1)))"
    await caller.fetchval(statement, (100 - overhead) // 2)
    assert await refusal(caller, statement, (100 - overhead) // 2 + 1) == ("AC003", "payload")


async def test_plain_sql_of_psql_s_kind_submits(service: Service, caller: asyncpg.Connection) -> None:
    """Several statements in one text, as psql and others send them, and a trigger that submits for each row."""
    await caller.execute(
        """
        CREATE FUNCTION public.confirm() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM aftercommit.submit_task('echo', jsonb_build_object('order', NEW.id));
            RETURN NULL;
        END $$;
        CREATE TRIGGER confirm AFTER INSERT ON public.orders FOR EACH ROW EXECUTE FUNCTION public.confirm();
        BEGIN;
        INSERT INTO public.orders SELECT n FROM generate_series(1, 3) AS n;
        COMMIT;
        """
    )
    rows = await service.query("SELECT (payload ->> 'order')::int FROM aftercommit.tasks ORDER BY id")
    assert [row[0] for row in rows] == [1, 2, 3]


async def test_session_s_own_settings_do_not_matter(service: Service) -> None:
    """What changes how numbers, times and texts are written or read."""
    await know(service)
    api: Api = await service.api()
    fields: dict[str, Any] = {
        "type": "echo",
        "payload": {"n": 0.1, "s": 'a"\\\u00e9'},
        "unique": {"fields": ["n", "s"]},
    }
    first = await api.submit(**fields)
    connection = await asyncpg.connect(
        dsn_of(service.settings),
        server_settings={
            "extra_float_digits": "-5",
            "standard_conforming_strings": "off",
            "datestyle": "german",
            "timezone": "Europe/Amsterdam",
            "search_path": "pg_temp",
        },
    )
    try:
        again = await connection.fetchval("SELECT aftercommit.submit_tasks($1::text::jsonb)", json.dumps([fields]))
        assert str(again) == first["id"]
        early = await connection.fetchval("SELECT aftercommit.submit_task('echo', run_at => '0101-06-01 00:00:00')")
        assert early is not None
    finally:
        await connection.close()
