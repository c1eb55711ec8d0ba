"""The Python clients against a live service. Each test runs with the one that blocks and with the one for asyncio."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from aftercommit import AsyncClient, Backoff, Client, Context, InvalidPayload, TaskRequest, task
from aftercommit.client import (
    BodyTooLarge,
    DatabaseTimeout,
    DatabaseUnavailable,
    FieldError,
    IdempotencyKeyReused,
    InvalidRequest,
    MalformedRequest,
    MethodNotAllowed,
    NotFinished,
    NotFound,
    Overloaded,
    PurgeNotFound,
    QueueInUse,
    QueueNotFound,
    ScheduleExists,
    ScheduleNotFound,
    ScheduleRefused,
    ServiceUnavailable,
    TaskNotFound,
    TaskNotSucceeded,
    TasksDeleted,
    UniqueConflict,
    UnsupportedMediaType,
    WorkerNotFound,
    WrongState,
)
from aftercommit.client.call import Call
from aftercommit.devstack.ports import free_port
from tests.integration.answering_proxy import answering_proxy
from tests.integration.client_faces import Face
from tests.integration.service import Api, Service

NOWHERE = UUID("0199a3c5-7e4b-7c11-9a55-0d9f4c5be7aa")

PARKED = """
    INSERT INTO aftercommit.outbox_rows (work_queue, task_ids, dispatches, attempts, last_error, failed_at)
    SELECT 'gone.high', ARRAY[gen_random_uuid(), gen_random_uuid()], '{1,1}', 10, 'no queue takes it', now()
    FROM generate_series(1, :count)
    RETURNING id
"""

MakeFace = Callable[..., Face]


@task("test.typed")
async def typed(context: Context, customer: UUID, amount: int, note: str = "none") -> dict[str, object]:
    """As its worker has it in tests/integration/handlers.py."""
    raise NotImplementedError


@pytest.fixture(params=[Client, AsyncClient], ids=["blocking", "asyncio"])
async def make_face(request: pytest.FixtureRequest) -> AsyncIterator[MakeFace]:
    made: list[Face] = []

    def make(api: Api, **options: Any) -> Face:
        made.append(Face(request.param(api.url, **options)))
        return made[-1]

    yield make
    for face in made:
        await face.close()


async def count(service: Service) -> int:
    return int((await service.query("SELECT count(*) FROM aftercommit.tasks"))[0][0])


async def test_every_method_does_what_it_says(service: Service, make_face: MakeFace) -> None:
    face = make_face(await service.api())
    await service.relay()
    await service.maintenance()
    await service.worker()
    await try_tasks(face)
    await try_steering(face)
    await try_schedules(face)
    await try_queues(face)
    await try_the_service(face, service)
    await try_workers(face)
    methods = {name for name in vars(type(face.client)) if not name.startswith("_")}
    assert face.called == methods - {"close", "aclose"}


async def try_tasks(face: Face) -> None:
    task = await face("submit", "echo", {"hello": "world"}, priority="high", tags=["greeting"], max_retries=3)
    assert (task.submission, task.priority, task.tags, task.max_retries) == ("created", "high", ("greeting",), 3)
    done = await face("wait", task, timeout=60)
    assert (done.status, done.result, done.attempt, done.is_final) == ("succeeded", {"hello": "world"}, 1, True)
    assert done.created_at <= done.first_started_at <= done.finished_at
    assert await face("result", str(task.id)) == {"hello": "world"}
    assert await face("get_task", task.id) == done
    [attempt] = await face("list_attempts", task)
    assert (attempt.attempt, attempt.outcome, attempt.error) == (1, "succeeded", None)

    request = typed.with_options(queue="tasks").request(customer=NOWHERE, amount=3)
    first, second = await face("submit_batch", [request, TaskRequest("echo", {"n": 2})])
    finished = await face("wait_all", [second, first.id], timeout=60)
    assert [each.result for each in finished] == [
        {"n": 2},
        {"customer": str(NOWHERE), "amount": 3, "note": "none"},
    ]

    many = await face(
        "submit_many", (TaskRequest("echo", {"n": n}, {"tags": ["many"]}) for n in range(25)), batch_size=10
    )
    assert [each.payload for each in many] == [{"n": n} for n in range(25)]
    listed = await face("list_tasks", tag="many", page_size=10, include=["payload"])
    assert [each.id for each in listed] == [each.id for each in reversed(many)]
    assert listed[0].payload == {"n": 24}
    assert await face("list_tasks", created_before=task.created_at - timedelta(hours=1)) == []


async def try_steering(face: Face) -> None:
    later = await face("submit", "echo", {"n": 1}, run_at=datetime.now(UTC) + timedelta(days=1))
    assert later.status == "scheduled"
    moved = await face("reschedule_task", later, delay_seconds=7_200)
    assert moved.due_at < later.due_at
    assert (await face("run_task_now", later)).status in ("queued", "running", "succeeded")
    await face("wait", later, timeout=60)
    again = await face("retry_task", later, payload={"n": 2})
    assert await face("result", again, timeout=60) == {"n": 2}

    waiting = [await face("submit", "echo", {}, delay_seconds=3_600) for _ in range(3)]
    cancelled = await face("cancel_task", waiting[0], reason="not needed")
    assert (cancelled.status, cancelled.cancel_reason) == ("cancelled", "not needed")
    assert (await face("cancel_task", waiting[0])).status == "cancelled"
    assert await face("result", await face("complete_task", waiting[1], result={"by": "hand"})) == {"by": "hand"}
    failed = await face("fail_task", waiting[2], type="CardDeclined", message="no")
    assert (failed.status, failed.error.type, failed.error.message) == ("failed", "CardDeclined", "no")
    with pytest.raises(TaskNotSucceeded, match=f"task {failed.id} is failed: CardDeclined: no") as caught:
        await face("result", failed)
    assert caught.value.task == failed

    running = await face("submit", "test.sleep", {"seconds": 60})
    while (await face("get_task", running)).status != "running":
        await asyncio.sleep(0.05)
    stopped = await face("cancel_task", running, wait_seconds=30)
    assert stopped.status == "cancelled"


async def try_schedules(face: Face) -> None:
    made = await face("create_schedule", "daily", TaskRequest("echo", {"a": 1}), cron="0 7 * * *", zone="Europe/Berlin")
    assert (made.name, made.cron, made.zone, made.task["payload"]) == ("daily", "0 7 * * *", "Europe/Berlin", {"a": 1})
    await face("create_schedule", "hourly", TaskRequest("echo"), interval_seconds=3_600, overlap="skip")
    listed = await face("list_schedules", page_size=1)
    assert [each.name for each in listed] == ["daily", "hourly"]
    replaced = await face("replace_schedule", "daily", TaskRequest("echo"), interval_seconds=86_400)
    assert (replaced.cron, replaced.interval_seconds) == (None, 86_400)
    assert (await face("pause_schedule", "daily")).paused
    assert not (await face("resume_schedule", "daily")).paused
    triggered = await face("trigger_schedule", "daily")
    assert (triggered.schedule.name, triggered.schedule.kind) == ("daily", "trigger")
    now = datetime.now(UTC)
    backfilled = await face("backfill_schedule", "hourly", now - timedelta(hours=5), now)
    assert backfilled.created == len(backfilled.task_ids) == 5
    assert backfilled.next_from is None
    runs = await face("list_schedule_runs", "hourly", page_size=2)
    assert [(run.kind, run.outcome) for run in runs] == [("backfill", "created")] * 5
    assert {run.task_id for run in runs} == set(backfilled.task_ids)
    assert (await face("get_schedule", "hourly")).name == "hourly"
    assert await face("delete_schedule", "hourly") is None
    with pytest.raises(ScheduleNotFound):
        await face("get_schedule", "hourly")


async def try_queues(face: Face) -> None:
    made = await face("put_queue", "letters", max_running=2, description="paper")
    assert (made.name, made.max_running, made.is_default, made.paused) == ("letters", 2, False, None)
    paused = await face("pause_queue", "letters", by="Ada")
    assert paused.paused["by"] == "Ada"
    await face("submit", "echo", {}, queue="letters")
    dry = await face("purge_queue", "letters", type="echo", dry_run=True)
    assert (dry.id, dry.matching) == (None, 1)
    purge = await face("purge_queue", "letters", older_than_seconds=0)
    while (seen := await face("get_purge", "letters", purge.id)).ended_at is None:
        await asyncio.sleep(0.1)
    assert seen.cancelled == 1
    assert (await face("resume_queue", "letters")).paused is None
    found = await face("get_queue", "letters")
    assert [each.name for each in found.work_queues] == ["letters.high", "letters.medium", "letters.low"]
    with pytest.raises(QueueInUse):
        await face("delete_queue", "tasks")
    with pytest.raises(PurgeNotFound):
        await face("get_purge", "letters", NOWHERE)
    assert (await face("delete_queue", "letters", cancel=True)).deleting["mode"] == "cancel"
    with pytest.raises(QueueNotFound):
        await face("get_queue", "nowhere")


async def try_workers(face: Face) -> None:
    [worker] = await face("list_workers", page_size=1)
    assert (worker.state, worker.grants) == ("running", None)
    assert (await face("get_worker", worker.name)).tasks == ()
    with pytest.raises(WorkerNotFound):
        await face("get_worker", "nobody")
    assert (await face("drain_worker", worker.name)).state == "draining"


async def try_the_service(face: Face, service: Service) -> None:
    types = await face("list_types", page_size=3)
    assert [each for each in types if each.type == "echo"] == [await face("get_type", "echo")]
    queues = await face("list_queues")
    assert queues.broker == "up"
    assert [each.name for each in queues.queues][:3] == ["tasks.high", "tasks.medium", "tasks.low"]
    assert await face("check_health") is None
    assert (await face("get_readiness")).status == "ready"

    assert await face("list_parked_rows") == []
    ids = sorted(row[0] for row in await service.query(PARKED, count=3))
    outbox = await face("get_outbox")
    assert (outbox.failed, [row.id for row in outbox.failed_rows]) == (6, ids)
    parked = await face("list_parked_rows", page_size=2)
    assert [(row.id, row.work_queue, len(row.task_ids)) for row in parked] == [(id, "gone.high", 2) for id in ids]
    assert await face("requeue", ids[:1]) == 2
    assert await face("requeue") == 4


async def test_many_tasks_are_submitted_in_their_order_and_a_second_time_as_the_same(
    service: Service, make_face: MakeFace
) -> None:
    face = make_face(await service.api())
    requests = [TaskRequest("echo", {"n": n}) for n in range(2_500)]
    first = await face("submit_many", requests, batch_size=1_000, idempotency_key="import-7")
    second = await face("submit_many", requests, batch_size=1_000, idempotency_key="import-7")
    assert [each.id for each in first] == [each.id for each in second]
    assert [each.submission for each in first] == ["created"] * 2_500
    assert [each.submission for each in second] == ["replayed"] * 2_500
    rows = await service.query("SELECT payload->>'n' FROM aftercommit.tasks ORDER BY id")
    assert [int(row[0]) for row in rows] == list(range(2_500))


async def test_many_tasks_are_taken_only_as_they_are_asked_for(service: Service) -> None:
    api = await service.api()
    taken = 0

    def requests() -> Any:
        nonlocal taken
        for n in range(1_000_000):
            taken += 1
            yield TaskRequest("echo", {"n": n})

    async with AsyncClient(api.url) as client:
        stream = client.submit_many(requests(), batch_size=10)
        assert taken == 0
        for n in range(15):
            assert (await anext(stream)).payload == {"n": n}
        assert taken == 20
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
    assert await count(service) == 20


async def test_asynchronous_iterable_is_submitted_too(service: Service) -> None:
    async def requests() -> AsyncIterator[TaskRequest]:
        for n in range(3):
            yield TaskRequest("echo", {"n": n})

    async with AsyncClient((await service.api()).url) as client:
        submitted = [task async for task in client.submit_many(requests())]
    assert [task.payload for task in submitted] == [{"n": n} for n in range(3)]


async def test_wait_ends_when_its_time_is_over(service: Service, make_face: MakeFace) -> None:
    face = make_face(await service.api())
    task = await face("submit", "echo", {})
    with pytest.raises(NotFinished, match=rf"task {task.id} is queued after 0\.3 s") as caught:
        await face("wait", task, timeout=0.3)
    assert caught.value.task is not None
    assert caught.value.task.id == task.id
    with pytest.raises(TimeoutError):
        await face("wait_all", [task, task], timeout=0.3)


async def test_handler_is_submitted_with_its_own_signature(service: Service) -> None:
    api = await service.api()
    with Client(api.url) as client:
        made = await asyncio.to_thread(typed.with_options(priority="low").submit, client, customer=NOWHERE, amount=2)
    async with AsyncClient(api.url) as client:
        also_made = await typed.submit(client, NOWHERE, 3)
    assert (made.type, made.priority, made.payload) == ("test.typed", "low", {"customer": str(NOWHERE), "amount": 2})
    assert also_made.payload == {"customer": str(NOWHERE), "amount": 3}


async def test_options_of_a_submit_are_those_of_the_task(service: Service, make_face: MakeFace) -> None:
    face = make_face(await service.api())
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    task = await face(
        "submit",
        "echo",
        {},
        queue="tasks",
        timeout_seconds=7,
        retry=Backoff(initial_seconds=2),
        result_ttl_seconds=60,
        run_at=due,
        expires_at=due + timedelta(hours=1),
        unique={"key": "order-17", "while": "waiting", "scope": "queue"},
    )
    assert (task.due_at, task.expires_at) == (due, due + timedelta(hours=1))
    assert (task.timeout_seconds, task.result_ttl_seconds) == (7, 60)
    assert task.retry["backoff"]["initial_seconds"] == 2
    assert (task.unique.key, task.unique.held_while, task.unique.scope) == ("order-17", "waiting", "queue")
    assert (await face("get_task", task)).unique == task.unique


async def test_key_is_sent_with_each_request(service: Service, make_face: MakeFace) -> None:
    api = await service.api()
    async with answering_proxy(api.url) as proxy:
        face = make_face(Api(proxy.url, api._session), api_key="hunter2")
        await face("submit", "echo", {})
        await face("list_queues")
    assert [headers["Authorization"] for headers in proxy.seen] == ["Bearer hunter2"] * 2


async def test_connection_is_used_again(service: Service, make_face: MakeFace) -> None:
    face = make_face(await service.api())
    for _ in range(5):
        await face("submit", "echo", {})
    pool: Any = vars(face.client._http._transport)["_pool"]  # httpx tells it nowhere else
    assert len(pool.connections) == 1


async def test_request_that_does_not_fit_is_refused_with_its_fields(service: Service, make_face: MakeFace) -> None:
    face = make_face(await service.api())
    with pytest.raises(InvalidRequest) as caught:
        await face("submit", "echo", {}, queue="no-such-queue", max_retries=-1)
    assert (caught.value.status, caught.value.code) == (422, "invalid-request")
    assert [error.pointer for error in caught.value.errors] == ["#/max_retries"]
    with pytest.raises(InvalidPayload, match="echo is not JSON"):
        await face("submit", "echo", {"order": object()})
    with pytest.raises(InvalidPayload, match="amount: Input should be a valid integer"):
        typed.request(customer=NOWHERE, amount="many")  # type: ignore[arg-type]  # what the test is about
    assert await count(service) == 0


async def test_conflicts_are_told_apart(service: Service, make_face: MakeFace) -> None:
    face = make_face(await service.api())
    unique = {"key": "order-17", "on_conflict": "reject"}
    held = await face("submit", "echo", {}, unique=unique, idempotency_key="first")
    with pytest.raises(UniqueConflict) as caught:
        await face("submit", "echo", {}, unique=unique)
    assert caught.value.errors == (FieldError("#/unique", f"is held by task {held.id}"),)
    existing = await face("submit", "echo", {}, unique={"key": "order-17"})
    assert (existing.id, existing.submission) == (held.id, "existing")
    replayed = await face("submit", "echo", {}, unique=unique, idempotency_key="first")
    assert (replayed.id, replayed.submission) == (held.id, "replayed")
    with pytest.raises(IdempotencyKeyReused):
        await face("submit", "echo", {"another": "request"}, idempotency_key="first")
    with pytest.raises(WrongState):
        await face("retry_task", held)
    with pytest.raises(TaskNotFound):
        await face("get_task", NOWHERE)
    await service.query("DELETE FROM aftercommit.tasks")
    with pytest.raises(TasksDeleted):
        await face("submit", "echo", {}, unique=unique, idempotency_key="first")


async def test_schedule_s_conflicts_are_told_apart(service: Service, make_face: MakeFace) -> None:
    face = make_face(await service.api(queues=("tasks", "emails")))
    request = TaskRequest("echo", {}, {"queue": "emails"})
    await face("create_schedule", "daily", request, cron="0 7 * * *")
    with pytest.raises(ScheduleExists):
        await face("create_schedule", "daily", request, cron="0 7 * * *")
    with pytest.raises(InvalidRequest) as caught:
        await face("create_schedule", "other", request, cron="never")
    assert [error.pointer for error in caught.value.errors] == ["#/cron"]
    without = make_face(await service.api(queues=("tasks",)))
    await service.query("UPDATE aftercommit.queues SET deleted_at = now() WHERE name = 'emails'")
    await asyncio.sleep(1)
    with pytest.raises(ScheduleRefused):
        await without("trigger_schedule", "daily")


async def test_request_that_is_none_is_refused(service: Service, make_face: MakeFace) -> None:
    api = await service.api(api_max_body_bytes=10_000, api_max_payload_bytes=10_000)
    face = make_face(api)

    def raw(method: str, path: str, body: bytes | None) -> Call[None]:
        return Call(method=method, path=path, body=body, repeatable=False, parse=lambda _: None)

    with pytest.raises(MalformedRequest):
        await face("_send", raw("POST", "/v1/tasks", b"{"))
    with pytest.raises(UnsupportedMediaType):
        await face("_send", UndeclaredCall(method="POST", path="/v1/tasks", body=b"{}", repeatable=False, parse=len))
    with pytest.raises(MethodNotAllowed):
        await face("_send", raw("DELETE", "/v1/tasks", None))
    with pytest.raises(BodyTooLarge):
        await face("submit", "echo", {"large": "x" * 20_000})
    elsewhere = make_face(Api(f"{api.url}/elsewhere", api._session))
    with pytest.raises(NotFound):
        await elsewhere("submit", "echo", {})


class UndeclaredCall(Call[int]):
    """Does not say that its body is JSON."""

    @property
    def headers(self) -> dict[str, str]:
        return {"Content-Type": "text/plain"}


async def test_service_whose_database_is_locked_is_unavailable(service: Service, make_face: MakeFace) -> None:
    face = make_face(await service.api(submit_wait_seconds=0.5), timeout=2)
    async with service.engine.begin() as connection:
        await connection.execute(text("LOCK aftercommit.tasks"))
        with pytest.raises(ServiceUnavailable, match="POST /v1/tasks did not succeed within 2 s") as caught:
            await face("submit", "echo", {}, idempotency_key="order-17")
    assert isinstance(caught.value.__cause__, (DatabaseTimeout, Overloaded))
    assert (caught.value.status, caught.value.idempotency_key) == (503, "order-17")
    task = await face("submit", "echo", {}, idempotency_key=caught.value.idempotency_key)
    assert await count(service) == 1
    assert task.status == "queued"


async def test_service_whose_database_is_away_is_unavailable(service: Service, make_face: MakeFace) -> None:
    face = make_face(await service.api(postgres_port=free_port()), timeout=0.5)
    with pytest.raises(ServiceUnavailable) as caught:
        await face("get_task", NOWHERE)
    assert isinstance(caught.value.__cause__, DatabaseUnavailable)
    assert (await face("get_readiness")).status == "not ready"
    with pytest.raises(DatabaseUnavailable):  # whether it was done is unknown, and doing it twice is another thing
        await face("trigger_schedule", "daily")
