"""Submits that replace the task that holds their unique key."""

import asyncio
import json
from collections import Counter
from datetime import datetime, timedelta

import pytest

from aftercommit.core.retries import Delay
from aftercommit.core.states import Event
from aftercommit.db.claims import ClaimedTask
from aftercommit.db.database import DatabaseConnection
from tests.integration.service import Service
from tests.integration.unique import HOUR, REPLACE, claim, end, made, sent, submit


@pytest.fixture
def connection(service: Service) -> DatabaseConnection:
    return DatabaseConnection(service.settings, application="test")


async def test_replaced_task_is_what_the_last_submit_wanted_and_waits_for_its_new_time(
    service: Service, connection: DatabaseConnection
) -> None:
    api = await service.api()
    first = await made(api, REPLACE, payload={"n": 1}, tags=["old"], max_retries=1)
    answer = await submit(api, REPLACE, payload={"n": 2}, tags=["new"], delay_seconds=HOUR, timeout_seconds=7)
    task = answer.body
    assert (answer.status, task["submission"], task["id"]) == (200, "replaced", first)
    assert (task["status"], task["dispatch"]) == ("scheduled", 0)
    assert (task["payload"], task["tags"], task["timeout_seconds"], task["max_retries"]) == ({"n": 2}, ["new"], 7, None)
    async with connection:
        assert await claim(connection, first) == []  # the message that was sent before
        assert (await api.call("POST", f"/v1/tasks/{first}/run-now"))[0] == 200
        [claimed] = await claim(connection, first)
        assert (claimed.payload, await claim(connection, first, 2)) == ('{"n":2}', [])


async def test_message_in_another_work_queue_is_stale_when_its_task_was_replaced(
    service: Service, connection: DatabaseConnection
) -> None:
    api = await service.api()
    first = await made(api, REPLACE)
    assert (await submit(api, REPLACE, priority="high")).body["dispatch"] == 2
    assert await sent(service) == {"tasks.medium": [1], "tasks.high": [2]}
    # Later again: no number that was in use may come back.
    assert (await submit(api, REPLACE, priority="low", delay_seconds=HOUR)).body["status"] == "retrying"
    await api.call("POST", f"/v1/tasks/{first}/run-now")
    async with connection:
        assert [await claim(connection, first, dispatch) for dispatch in (1, 2, 3)] == [[], [], []]
        assert len(await claim(connection, first, 4)) == 1
    assert (await sent(service))["tasks.low"] == [4]


async def test_task_that_waits_for_a_retry_is_replaced_with_all_its_retries(
    service: Service, connection: DatabaseConnection
) -> None:
    api = await service.api()
    first = await made(api, REPLACE)
    async with connection:
        await claim(connection, first)
        await end(connection, first, Event.RETRY, delay=Delay(5, True))
        later = (await submit(api, REPLACE, payload={"n": 2}, delay_seconds=HOUR)).body
        assert (later["status"], later["dispatch"], await claim(connection, first, 2)) == ("retrying", 3, [])
        now = (await submit(api, REPLACE, payload={"n": 3})).body
        assert (now["status"], now["dispatch"], now["error"]) == ("queued", 4, None)
        [claimed] = await claim(connection, first, 4)
        assert (claimed.attempt, claimed.charged, claimed.payload) == (2, 1, '{"n":3}')


async def test_submits_that_keep_coming_put_a_task_off_no_further_than_at_most_seconds(service: Service) -> None:
    api = await service.api()
    unique = REPLACE | {"at_most_seconds": 100}
    first = await made(api, unique, delay_seconds=60)
    since = datetime.fromisoformat((await api.get(first))["created_at"])
    for held_for, due_after in ((0, 60), (30, 90), (80, 100)):
        await service.query(
            "UPDATE aftercommit.unique_keys SET held_since = now() - make_interval(secs => :seconds)", seconds=held_for
        )
        task = (await submit(api, unique, delay_seconds=60)).body
        due_at = datetime.fromisoformat(task["due_at"]) + timedelta(seconds=held_for)
        assert abs((due_at - since).total_seconds() - due_after) < 10, held_for
    await service.query("UPDATE aftercommit.unique_keys SET held_since = now() - interval '101 seconds'")
    task = (await submit(api, unique, delay_seconds=60)).body
    assert (task["submission"], task["status"], task["due_at"]) == ("replaced", "queued", None)
    assert await sent(service) == {"tasks.medium": [1]}


async def test_task_that_is_started_at_that_moment_runs_with_what_its_submits_were_answered(
    service: Service, connection: DatabaseConnection
) -> None:
    api = await service.api()
    fates: Counter[str] = Counter()
    async with connection:
        for number in range(200):
            task_id = await made(api, REPLACE, payload={"n": -1})
            answer, claimed = await asyncio.gather(
                submit(api, REPLACE, payload={"n": number}), claim_soon(connection, task_id, number)
            )
            fates[answer.body["submission"]] += 1
            claimed = claimed or await claim(connection, task_id)  # it passed over the row, which was locked
            assert answer.body["submission"] in ("replaced", "existing")
            replaced = answer.body["submission"] == "replaced"
            assert json.loads(claimed[0].payload) == {"n": number if replaced else -1} == answer.body["payload"]
            await end(connection, task_id)
    assert min(fates["replaced"], fates["existing"]) > 0, fates


async def claim_soon(connection: DatabaseConnection, task_id: str, number: int) -> list[ClaimedTask]:
    await asyncio.sleep(number % 10 * 0.001)
    return await claim(connection, task_id)


async def test_debounced_task_runs_once_with_the_last_payload(service: Service) -> None:
    await service.maintenance()
    await service.relay()
    await service.worker()
    api = await service.api()
    answers = [await submit(api, REPLACE, payload={"n": n}, delay_seconds=0.5) for n in range(5)]
    [task_id] = {answer.body["id"] for answer in answers}
    done = await api.get(task_id, wait=30)
    assert (done["status"], done["result"], done["attempt"]) == ("succeeded", {"n": 4}, 1)
