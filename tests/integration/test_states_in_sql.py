"""Every statement that moves tasks, run against every state in a real database and compared with ``core/states.py``.

SQL changes the states, so that is where the arrows of the design must hold. A statement that this test does not know is
found by its text.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

import aftercommit.db
from aftercommit.core.outcomes import Ending, Outcome
from aftercommit.core.queues import Priority
from aftercommit.core.retries import Delay
from aftercommit.core.states import FINAL, SOURCES, WAITING, Event, Status, target
from aftercommit.core.task_ref import TaskRef
from aftercommit.db import (
    cancels,
    claims,
    expiry,
    parked,
    reconcile,
    record,
    record_and_claim,
    retention,
    schedule,
    steering,
    unique_keys,
)
from aftercommit.db.database import Database, DatabaseConnection, Fetch
from aftercommit.db.retention import Kind
from aftercommit.db.submit import NewTask
from aftercommit.runtime.notifier import Notifier
from aftercommit.server.maintenance.rescuer import Rescuer
from tests.integration.rows import add_tasks, add_worker, ids
from tests.integration.service import Service

WORKER: Final = "worker"


@dataclass(frozen=True, slots=True)
class Move:
    """What a statement does to one task. ``event`` is the arrow that it draws; None: it must change no state."""

    run: Callable[[Fetch, UUID], Awaitable[Any]]
    event: Event | None
    failed: bool = False


def recording(ending: Ending, **fields: Any) -> Callable[[Fetch, UUID], Awaitable[Any]]:
    def run(fetch: Fetch, task_id: UUID) -> Awaitable[Any]:
        outcome = Outcome(task_id=task_id, attempt=1, worker=WORKER, ending=ending, **fields)
        return record.record(fetch, [outcome])

    return run


def a_success(task_id: UUID) -> Outcome:
    return Outcome(task_id=task_id, attempt=1, worker=WORKER, ending=Event.SUCCEED, result="1")


def completing(*, result: str | None = None, error: str | None = None) -> Callable[[Fetch, UUID], Awaitable[Any]]:
    return lambda fetch, task_id: steering.complete(fetch, task_id, result=result, error=error, reason="by hand")


def replacing(**fields: Any) -> Callable[[Fetch, UUID], Awaitable[Any]]:
    def run(fetch: Fetch, task_id: UUID) -> Awaitable[Any]:
        task = NewTask(id=task_id, type="other", payload="[1]", **fields)
        return unique_keys.replace(fetch, [task], now=datetime.now(UTC))

    return run


async def resend(fetch: Fetch, task_id: UUID) -> None:
    await reconcile.resend(fetch, [task_id], before=datetime.now(UTC) + timedelta(hours=1))


ERROR: Final = '{"type": "Test", "message": "no luck", "traceback": null}'
MOVES: Final[dict[str, Move]] = {
    "claim": Move(
        lambda fetch, task_id: claims.claim(fetch, [TaskRef(task_id, 1)], worker="another", claim_id=task_id),
        Event.CLAIM,
    ),
    "record a success": Move(recording(Event.SUCCEED, result="1"), Event.SUCCEED),
    "claim beside a success": Move(
        lambda fetch, task_id: record_and_claim.record_and_claim(
            fetch,
            [a_success(UUID(int=1))],
            [TaskRef(task_id, 1)],
            closed=[],
            worker="another",
            claim_id=task_id,
        ),
        Event.CLAIM,
    ),
    "record a success beside a claim": Move(
        lambda fetch, task_id: record_and_claim.record_and_claim(
            fetch,
            [a_success(task_id)],
            [TaskRef(UUID(int=1), 1)],
            closed=[],
            worker=WORKER,
            claim_id=task_id,
        ),
        Event.SUCCEED,
    ),
    "record a failure": Move(recording(Event.FAIL, error=ERROR, reason="no luck"), Event.FAIL),
    "record a release": Move(recording(Event.RELEASE, error=ERROR), Event.RELEASE),
    "record a retry by the broker": Move(recording(Event.RETRY, error=ERROR, delay=Delay(5, True)), Event.RETRY),
    "record a retry by the scheduler": Move(recording(Event.RETRY, error=ERROR, delay=Delay(7, False)), Event.RETRY),
    "record a snooze": Move(recording(Event.SNOOZE, error=ERROR, delay=Delay(7, False)), Event.SNOOZE),
    "record that a cancelled one stopped": Move(recording(Event.STOP, error=ERROR), Event.STOP),
    "record that one was cut": Move(recording(Event.CUT, error=ERROR), Event.CUT),
    # One that runs is only marked.
    "cancel": Move(lambda fetch, task_id: cancels.cancel(fetch, task_id, reason="no longer wanted"), Event.CANCEL),
    "cancel for a schedule": Move(
        lambda fetch, task_id: cancels.cancel_free(fetch, {task_id: "its next tick is due"}), Event.CANCEL
    ),
    "complete as a success": Move(completing(result="1"), Event.COMPLETE),
    "complete as a failure": Move(completing(error=ERROR), Event.COMPLETE, failed=True),
    "resubmit": Move(steering.resubmit, Event.RESUBMIT),
    "resubmit with another payload": Move(
        lambda fetch, task_id: steering.resubmit(fetch, task_id, payload='{"a": 2}'), Event.RESUBMIT
    ),
    "send_due": Move(lambda fetch, _: schedule.send_due(fetch, limit=10), Event.FALL_DUE),
    "send_due soon": Move(
        lambda fetch, _: schedule.send_due(fetch, limit=10, within=timedelta(minutes=1)), Event.FALL_DUE
    ),
    "run_now": Move(schedule.run_now, Event.RUN_NOW),
    "reschedule": Move(
        lambda fetch, task_id: schedule.reschedule(fetch, task_id, run_at=None, delay=timedelta(hours=1)),
        Event.RESCHEDULE,
    ),
    "expire": Move(lambda fetch, _: expiry.expire(fetch, limit=10), Event.EXPIRE),
    "expire soon": Move(lambda fetch, _: expiry.expire(fetch, limit=10, within=timedelta(minutes=1)), Event.EXPIRE),
    "replace": Move(replacing(), Event.REPLACE),
    "replace in another work queue": Move(replacing(priority=Priority.HIGH), Event.REPLACE),
    "replace for later": Move(replacing(delay=timedelta(hours=1)), Event.POSTPONE),
    "resend": Move(resend, None),
    "give_up": Move(
        lambda fetch, task_id: parked.give_up(fetch, {TaskRef(task_id, 1): ERROR}, ["nobody knew it"]), Event.GIVE_UP
    ),
    "park": Move(
        lambda fetch, task_id: parked.park_unknown(fetch, [TaskRef(task_id, 1)], known=["other"], worker="another"),
        None,
    ),
    "send a parked one again": Move(
        lambda fetch, task_id: parked.send_again(fetch, {TaskRef(task_id, 1): ERROR}), None
    ),
}


@pytest.mark.parametrize("name", MOVES)
async def test_statement_draws_the_design_s_arrow_or_none(name: str, service: Service) -> None:
    move = MOVES[name]
    due_seconds_ago = 5.0 if move.event in (Event.FALL_DUE, Event.RESCHEDULE) else None
    async with DatabaseConnection(service.settings, application="test") as connection:
        for source in Status:
            task_id = await the_only_task(service, source, worker=WORKER, due_seconds_ago=due_seconds_ago)
            if move.event is Event.EXPIRE:
                await service.query("UPDATE aftercommit.tasks SET expires_at = now() - interval '1 second'")
            before = await row_of(service)
            await move.run(connection.fetch, task_id)
            after = await row_of(service)
            if move.event is None:
                assert after["status"] == source
            elif source in SOURCES[move.event]:
                assert after["status"] == target(move.event, source, failed=move.failed), source
                check_kept_invariants(after)
            else:
                assert after == before, source
                assert await service.query("SELECT id FROM aftercommit.outbox_rows") == [], source


@pytest.mark.parametrize("name", [name for name in MOVES if name.startswith("record ")])
async def test_task_that_was_to_be_cancelled_is_whatever_its_outcome(name: str, service: Service) -> None:
    async with DatabaseConnection(service.settings, application="test") as connection:
        task_id = await the_only_task(service, Status.RUNNING, worker=WORKER)
        await cancels.cancel(connection.fetch, task_id, reason="no longer wanted")
        assert not await record.record_own(connection.fetch, a_success(task_id))
        if "beside a claim" in name:  # it leaves such a task to the recorder's own statement
            await MOVES[name].run(connection.fetch, task_id)
            assert (await row_of(service))["status"] == Status.RUNNING
            return
        assert await MOVES[name].run(connection.fetch, task_id) == {(task_id, 1): Event.STOP}
        check_kept_invariants(await row_of(service))
        (row,) = await service.query(
            "SELECT t.status, t.features, t.result, t.error ->> 'message' AS message, a.outcome"
            " FROM aftercommit.tasks t JOIN aftercommit.attempts a ON a.task_id = t.id"
        )
        assert tuple(row) == (Status.CANCELLED, 0, None, "no longer wanted", Status.CANCELLED)
        assert await service.query("SELECT id FROM aftercommit.outbox_rows") == []


@pytest.mark.parametrize(
    ("max_retries", "event"), [(3, Event.RETRY), (0, Event.FAIL)], ids=["with retries left", "with none left"]
)
async def test_rescue_draws_the_design_s_arrow_or_none(max_retries: int, event: Event, service: Service) -> None:
    database = Database(service.settings, application="test")
    notifier = Notifier(DatabaseConnection(service.settings, application="test"))
    rescuer = Rescuer(database, notifier, interval_seconds=1, overdue_seconds=1)
    for source in Status:
        await the_only_task(service, source, worker="gone")
        await add_worker(service, "gone", alive=False, max_retries=max_retries)
        await service.query(
            "INSERT INTO aftercommit.claims (id, worker, task_ids) SELECT id, 'gone', ARRAY[id] FROM aftercommit.tasks"
            " ON CONFLICT DO NOTHING"
        )
        await rescuer.run_once()
        after = await row_of(service)
        assert after["status"] == (target(event, source) if source in SOURCES[event] else source), source
        check_kept_invariants(after)
    await database.close()


@pytest.mark.parametrize("kind", Kind)
async def test_retention_deletes_none_but_final_tasks_of_its_kind(kind: Kind, service: Service) -> None:
    async with DatabaseConnection(service.settings, application="test") as connection:
        for source in Status:
            task_id = await the_only_task(service, source, worker=WORKER, finished_seconds_ago=10)
            deleted = await retention.delete(connection.fetch, kind, [task_id], retention_seconds=5)
            of_kind = (source is Status.SUCCEEDED) == (kind is Kind.SUCCEEDED)
            assert deleted == (source in FINAL and of_kind), source
            assert len(await service.query("SELECT id FROM aftercommit.tasks")) == 1 - deleted, source


async def the_only_task(service: Service, status: Status, **fields: Any) -> UUID:
    await service.query(
        "TRUNCATE aftercommit.tasks, aftercommit.attempts, aftercommit.outbox_rows, aftercommit.claims,"
        " aftercommit.workers"
    )
    (task_id,) = ids(1)
    await add_tasks(service, [task_id], status, **fields)
    return task_id


async def row_of(service: Service) -> dict[str, Any]:
    (row,) = await service.query(
        "SELECT status, dispatch, attempt, uncharged, worker, enqueued, queued_at, due_at, finished_at,"
        " error IS NOT NULL AS failed FROM aftercommit.tasks"
    )
    return dict(row._mapping)


def check_kept_invariants(row: dict[str, Any]) -> None:
    """What the partial indexes take for granted."""
    assert (row["finished_at"] is not None) == (row["status"] in FINAL)
    if row["status"] in FINAL:
        assert row["failed"] == (row["status"] != Status.SUCCEEDED)
        assert row["enqueued"]
    assert (row["dispatch"] == 0) <= (row["status"] in (Status.SCHEDULED, Status.CANCELLED, Status.EXPIRED))
    if not row["enqueued"]:
        assert row["status"] in WAITING
        assert row["due_at"] is not None


CHANGE: Final = re.compile(r"UPDATE aftercommit\.tasks\b(?:(?!WHERE).)*\bstatus =", re.DOTALL)


def test_every_statement_that_changes_a_status_is_tried_above() -> None:
    """A new one needs a line in ``MOVES``. ``steering`` has two; that of ``record`` serves all
    endings, and ``record_and_claim`` has the claim's from ``claims``."""
    modules = Path(aftercommit.db.__file__).parent.glob("*.py")
    counts = {module.stem: len(CHANGE.findall(module.read_text())) for module in modules}
    assert {name: count for name, count in counts.items() if count} == {
        "cancels": 1,
        "claims": 1,
        "expiry": 1,
        "parked": 1,
        "record": 1,
        "record_and_claim": 1,
        "schedule": 2,
        "steering": 2,
        "unique_keys": 1,
    }


def test_every_event_is_drawn_by_a_statement() -> None:
    assert {move.event for move in MOVES.values()} - {None} == set(Event)
