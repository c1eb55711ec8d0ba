"""Unique keys: at most one task holds one, whoever submits, retries or ends tasks at that moment."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from aftercommit.db import unique_keys
from aftercommit.db.database import Database, DatabaseConnection
from aftercommit.server.maintenance import unique_key_sweeper
from aftercommit.server.maintenance.unique_key_sweeper import UniqueKeySweeper
from aftercommit.server.submission import unique_commit
from tests.integration.service import Answer, Api, Service
from tests.integration.unique import HOUR, REPLACE, claim, count, end, made, sent, submit
from tests.long_runs import often

ROUNDS = often(200, long=1_000)
UNFINISHED = "SELECT id FROM aftercommit.tasks WHERE finished_at IS NULL"


@pytest.fixture
def connection(service: Service) -> DatabaseConnection:
    return DatabaseConnection(service.settings, application="test")


@pytest.mark.parametrize("on_conflict", ["return_existing", "replace"])
async def test_one_task_is_made_when_a_thousand_submits_with_one_key_come_at_once(
    service: Service, on_conflict: str
) -> None:
    apis = [await service.api(submit_wait_seconds=60), await service.api(submit_wait_seconds=60)]
    numbers = iter(range(1_000))
    answers: list[Answer] = []

    async def client(api: Api, numbers: Iterator[int]) -> None:
        for number in numbers:
            unique = {"key": "k", "on_conflict": on_conflict}
            answers.append(await submit(api, unique, payload={"n": number}))

    await asyncio.gather(*(client(apis[n % 2], numbers) for n in range(8)))
    other = "existing" if on_conflict == "return_existing" else "replaced"
    assert Counter(answer.body["submission"] for answer in answers) == {"created": 1, other: 999}
    assert Counter(answer.status for answer in answers) == {201: 1, 200: 999}
    [task_id] = {answer.body["id"] for answer in answers}
    assert await count(service) == 1
    assert await sent(service) == {"tasks.medium": [1]}
    payload = (await apis[0].get(task_id))["payload"]
    payloads = [answer.body["payload"] for answer in answers]
    assert payload in payloads[-8:] if other == "replaced" else payloads == [payload] * 1_000


async def test_answers_of_replacing_submits_show_what_each_of_them_wrote(service: Service) -> None:
    api = await service.api()
    answers = await asyncio.gather(*(submit(api, REPLACE, payload={"n": n}) for n in range(50)))
    assert [answer.body["payload"]["n"] for answer in answers] == list(range(50))


@pytest.mark.parametrize(("on_conflict", "fate"), [("return_existing", "existing"), ("replace", "replaced")])
async def test_one_task_is_made_when_a_batch_has_one_key_a_thousand_times(
    service: Service, on_conflict: str, fate: str
) -> None:
    api = await service.api()
    unique = {"key": "k", "on_conflict": on_conflict}
    batch = {"tasks": [{"type": "echo", "payload": {"n": n}, "unique": unique} for n in range(1_000)]}
    answer = await api.ask("POST", "/v1/tasks/batch", batch)
    assert answer.status == 201
    tasks = answer.body["tasks"]
    assert [task["submission"] for task in tasks] == ["created"] + [fate] * 999
    assert len({task["id"] for task in tasks}) == 1
    assert (await api.get(tasks[0]["id"]))["payload"] == {"n": 999 if fate == "replaced" else 0}
    assert (await count(service), await sent(service)) == (1, {"tasks.medium": [1]})


async def test_batches_with_the_same_keys_in_any_order_make_each_task_once(service: Service) -> None:
    apis = [await service.api(), await service.api()]
    tasks = [{"type": "echo", "unique": {"key": str(n), "on_conflict": "replace"}} for n in range(50)]
    answers = await asyncio.gather(
        *(apis[n % 2].ask("POST", "/v1/tasks/batch", {"tasks": tasks[:: 1 - n % 4 // 2 * 2]}) for n in range(16))
    )
    assert {answer.status for answer in answers} == {201}
    assert await count(service) == 50


@pytest.mark.timeout(300)
async def test_key_has_one_holder_and_no_submit_is_lost_when_the_holder_ends_at_that_moment(
    service: Service, connection: DatabaseConnection
) -> None:
    apis = [await service.api(), await service.api()]
    holder = await made(apis[0])
    fates: Counter[str] = Counter()
    async with connection:
        for number in range(ROUNDS):
            assert len(await claim(connection, holder)) == 1
            unique = {"key": "k", "on_conflict": ("return_existing", "replace")[number // 2 % 2]}
            one, other, _ = await asyncio.gather(
                submit(apis[0], unique, payload={"n": number}), submit(apis[1], unique), end(connection, holder)
            )
            unfinished = {str(row.id) for row in await service.query(UNFINISHED)}
            created = {answer.body["id"] for answer in (one, other) if answer.body["submission"] == "created"}
            # Who was given the old holder came before its end; whoever came after it was given the one new task.
            assert {one.body["id"], other.body["id"]} <= {holder} | created
            assert unfinished == created
            assert len(created) <= 1
            fates[one.body["submission"]] += 1
            holder = created.pop() if created else await made(apis[0])
    assert min(fates["created"], fates["existing"]) > 0, fates


async def test_retry_and_submit_at_the_same_moment_leave_one_holder(
    service: Service, connection: DatabaseConnection
) -> None:
    apis = [await service.api(), await service.api()]
    done = await made(apis[0])
    winners: Counter[int] = Counter()
    async with connection:
        for _ in range(50):
            await apis[0].call("POST", f"/v1/tasks/{done}/cancel")
            retried, submitted = await asyncio.gather(apis[0].ask("POST", f"/v1/tasks/{done}/retry"), submit(apis[1]))
            winners[retried.status] += 1
            [row] = await service.query(UNFINISHED)
            assert (retried.status, submitted.body["submission"]) in ((200, "existing"), (409, "created"))
            assert submitted.body["id"] == str(row.id)
            done = str(row.id)
    assert set(winners) <= {200, 409}


async def test_key_is_free_again_when_its_task_is_final(service: Service, connection: DatabaseConnection) -> None:
    api = await service.api()
    first = await made(api)
    async with connection:
        await claim(connection, first)
        running = await submit(api, REPLACE, payload={"n": 1})
        assert (running.status, running.body["submission"], running.body["status"]) == (200, "existing", "running")
        await end(connection, first)
    assert await made(api) != first


async def test_key_of_a_waiting_task_is_free_when_it_is_started(
    service: Service, connection: DatabaseConnection
) -> None:
    api = await service.api()
    unique = {"key": "k", "while": "waiting"}
    first = await made(api, unique)
    assert (await submit(api, unique)).body["id"] == first
    async with connection:
        await claim(connection, first)
    second = await made(api, unique)
    assert (await submit(api, unique)).body["id"] == second


async def test_key_is_held_for_its_seconds_whatever_becomes_of_the_task(service: Service) -> None:
    api = await service.api()
    unique = {"key": "k", "for_seconds": HOUR}
    first = await made(api, unique)
    await api.call("POST", f"/v1/tasks/{first}/cancel")
    again = await submit(api, unique)
    assert (again.body["id"], again.body["status"]) == (first, "cancelled")
    await service.query("UPDATE aftercommit.unique_keys SET held_until = held_until - interval '1 hour'")
    second = await made(api, unique)
    await service.query("DELETE FROM aftercommit.tasks WHERE id = :id", id=second)  # as retention does
    assert await made(api, unique) != second


async def test_rejecting_submit_is_refused_whole_and_names_the_holder(service: Service) -> None:
    api = await service.api()
    first = await made(api)
    unique = {"key": "k", "on_conflict": "reject"}
    problem = await api.refusal("POST", "/v1/tasks", {"type": "echo", "unique": unique})
    assert (problem["status"], problem["code"]) == (409, "unique-conflict")
    assert problem["errors"] == [{"pointer": "#/unique", "detail": f"is held by task {first}"}]
    twice = [{"type": "echo", "unique": {"key": "free", "on_conflict": "reject"}}] * 2
    body = {"tasks": [{"type": "echo"}, *twice, {"type": "echo", "unique": unique}]}
    problem = await api.refusal("POST", "/v1/tasks/batch", body, headers={"Idempotency-Key": "once"})
    assert [error["pointer"] for error in problem["errors"]] == ["#/tasks/2/unique", "#/tasks/3/unique"]
    assert await count(service) == 1
    assert (await submit(api, {"key": "free"})).status == 201
    assert (await submit(api, {"key": "new"}, payload={})).status == 201


async def test_replay_gives_the_same_tasks_whether_the_first_request_made_them_or_not(service: Service) -> None:
    apis = [await service.api(), await service.api()]
    holder = await made(apis[0])
    body = {"tasks": [{"type": "echo", "unique": {"key": key}} for key in ("k", "free", "free")] + [{"type": "echo"}]}
    header = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(
        *(apis[n % 2].ask("POST", "/v1/tasks/batch", body, headers=header) for n in range(10))
    )
    assert {answer.status for answer in answers} == {201}
    [ids] = {tuple(task["id"] for task in answer.body["tasks"]) for answer in answers}
    assert (ids[0], ids[1]) == (holder, ids[2])
    fates = Counter(tuple(task["submission"] for task in answer.body["tasks"]) for answer in answers)
    assert fates == {("existing", "created", "existing", "created"): 1, ("replayed",) * 4: 9}
    assert await count(service) == 3


async def test_replay_comes_when_the_first_request_refuses_further_ones(service: Service) -> None:
    apis = [await service.api(), await service.api()]
    unique = {"key": "k", "on_conflict": "reject"}
    bodies: dict[str, Any] = {
        "/v1/tasks": {"type": "echo", "unique": unique},
        "/v1/tasks/batch": {"tasks": [{"type": "echo"}, {"type": "other", "unique": unique}]},
    }
    for path, body in bodies.items():
        header = {"Idempotency-Key": path}
        answers = await asyncio.gather(*(apis[n % 2].ask("POST", path, body, headers=header) for n in range(10)))
        assert {answer.status for answer in answers} == {201}
        assert Counter("Idempotency-Replayed" in answer.headers for answer in answers) == {False: 1, True: 9}
        other = {"Idempotency-Key": "another"}
        assert (await apis[0].refusal("POST", path, body, headers=other))["code"] == "unique-conflict"
    assert await count(service) == 3


async def test_task_that_waits_past_its_deadline_holds_no_key(service: Service, connection: DatabaseConnection) -> None:
    """No maintenance process is there to end it."""
    api = await service.api()
    held: dict[str, dict[str, Any]] = {name: {"key": name} for name in ("waits", "runs", "may start")}
    held |= {"before start": {"key": "before start", "while": "waiting"}, "for": {"key": "for", "for_seconds": HOUR}}
    first = {name: await made(api, unique, expires_in_seconds=HOUR) for name, unique in held.items()}
    async with connection:
        await claim(connection, first["runs"])
    for name, task_id in first.items():
        late = 1 if name == "may start" else 30
        await service.query(
            "UPDATE aftercommit.tasks SET expires_at = now() - make_interval(secs => :late) WHERE id = :id",
            late=late,
            id=task_id,
        )
    answers = {name: await submit(api, unique) for name, unique in held.items()}
    assert {name for name, answer in answers.items() if answer.body["submission"] == "created"} == {
        "waits",
        "before start",
    }
    assert answers["runs"].body["id"] == first["runs"]


async def test_retried_task_takes_its_key_again_unless_another_task_holds_it(service: Service) -> None:
    api = await service.api()
    first = await made(api, payload={"order": 1})
    await api.call("POST", f"/v1/tasks/{first}/cancel")
    second = await made(api)
    problem = await api.refusal("POST", f"/v1/tasks/{first}/retry")
    assert (problem["status"], problem["code"]) == (409, "unique-conflict")
    assert second in problem["detail"]
    await api.call("POST", f"/v1/tasks/{second}/cancel")
    assert (await api.call("POST", f"/v1/tasks/{first}/retry"))[0] == 200
    assert (await submit(api)).body["id"] == first
    assert (await api.refusal("POST", f"/v1/tasks/{first}/retry"))["code"] == "wrong-state"
    assert (await api.get(first))["unique"] == {
        "key": "k",
        "fields": None,
        "scope": "type",
        "while": "unfinished",
        "for_seconds": None,
    }


async def test_field_that_no_key_can_be_made_of_is_named(service: Service) -> None:
    api = await service.api()
    tasks = [{"type": "echo", "payload": {"a": 1}, "unique": {"fields": ["a", "b.c"]}}]
    problem = await api.refusal("POST", "/v1/tasks/batch", {"tasks": tasks})
    assert problem["errors"] == [{"pointer": "#/tasks/0/unique/fields/1", "detail": "'b.c' is not in the payload"}]
    body = {"type": "echo", "payload": {"a": {"b": [1]}}, "unique": {"fields": ["a", "a.b"]}}
    problem = await api.refusal("POST", "/v1/tasks", body)
    assert [error["pointer"] for error in problem["errors"]] == ["#/unique/fields/0", "#/unique/fields/1"]
    assert await count(service) == 0


async def test_key_that_is_locked_elsewhere_holds_up_nothing_but_itself(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unique_keys, "LOCK_SECONDS", 2)
    monkeypatch.setattr(unique_commit, "TRANSACTIONS_AT_ONCE", 2)
    api = await service.api(submit_wait_seconds=1)
    first = await made(api, REPLACE)
    async with service.engine.begin() as elsewhere:
        await elsewhere.execute(text("SELECT key FROM aftercommit.unique_keys FOR UPDATE"))
        held_up = [asyncio.create_task(submit(api, REPLACE)) for _ in range(20)]
        await service.until("SELECT count(*) = 2 FROM pg_locks WHERE NOT granted")
        async with asyncio.timeout(1):
            assert (await submit(api, {"key": "k"})).body["id"] == first  # needs no lock
            await api.submit("echo")
            await api.get(first)
        answers = await asyncio.gather(*held_up)
    codes = Counter(answer.body["code"] for answer in answers)
    assert codes == {"database-timeout": 2, "overloaded": 18}
    assert {answer.status for answer in answers} == {503}
    assert (await submit(api, REPLACE)).body["submission"] == "replaced"


async def test_sweep_deletes_the_keys_that_nobody_will_hold_any_more(
    service: Service, monkeypatch: pytest.MonkeyPatch, connection: DatabaseConnection
) -> None:
    monkeypatch.setattr(unique_key_sweeper, "BATCH", 3)
    api = await service.api()
    tasks = {name: await made(api, {"key": name}) for name in ("waits", "runs", "ended", "deleted")}
    for name in ("ended-held", "ended-over"):
        tasks[name] = await made(api, {"key": name, "for_seconds": HOUR})
    async with connection:
        await claim(connection, tasks["runs"])
    for name in ("ended", "ended-held", "ended-over"):
        await api.call("POST", f"/v1/tasks/{tasks[name]}/cancel")
    await service.query("DELETE FROM aftercommit.tasks WHERE id = :id", id=tasks["deleted"])
    await service.query(
        "UPDATE aftercommit.unique_keys SET held_until = now() WHERE task_id = :id", id=tasks["ended-over"]
    )
    database = Database(service.settings, application="test")
    sweeper = UniqueKeySweeper(database, interval_seconds=7)
    while await sweeper.run_once() != 7:
        pass
    await database.close()
    left = {str(row.task_id) for row in await service.query("SELECT task_id FROM aftercommit.unique_keys")}
    assert left == {tasks[name] for name in ("waits", "runs", "ended-held")}
