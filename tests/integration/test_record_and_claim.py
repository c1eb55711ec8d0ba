"""The statement that records some tasks and claims others."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from aftercommit.core.outcomes import Outcome
from aftercommit.core.states import Event
from aftercommit.core.task_ref import TaskRef
from aftercommit.db import claims, record, record_and_claim
from aftercommit.db.claims import ClaimedTask
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.record import AttemptKey
from tests.integration.service import Service

OLD_CLAIM, NEW_CLAIM = UUID(int=1), UUID(int=2)


@pytest.fixture
async def tasks(service: Service) -> list[TaskRef]:
    """Four that wait."""
    api = await service.api()
    return [TaskRef(UUID(task["id"]), 1) for task in await api.submit_batch([{"type": "echo"} for _ in range(4)])]


@pytest.fixture
async def link(service: Service) -> AsyncIterator[DatabaseConnection]:
    async with DatabaseConnection(service.settings, application="test") as opened:
        yield opened


@pytest.fixture
async def running(link: DatabaseConnection, tasks: list[TaskRef]) -> list[TaskRef]:
    """The first two of them."""
    await claims.claim(link.fetch, tasks[:2], worker="w", claim_id=OLD_CLAIM)
    return tasks[:2]


@pytest.fixture
def waiting(tasks: list[TaskRef]) -> list[TaskRef]:
    return tasks[2:]


def successes(refs: Sequence[TaskRef]) -> list[Outcome]:
    return [Outcome(task_id=ref.task_id, attempt=1, worker="w", ending=Event.SUCCEED, result="[1]") for ref in refs]


def keys(refs: Sequence[TaskRef]) -> set[AttemptKey]:
    return {(ref.task_id, 1) for ref in refs}


def succeeded(refs: Sequence[TaskRef]) -> dict[AttemptKey, Event]:
    return dict.fromkeys(keys(refs), Event.SUCCEED)


async def run(
    link: DatabaseConnection, ended: Sequence[TaskRef], offered: Sequence[TaskRef]
) -> tuple[list[ClaimedTask], dict[AttemptKey, Event]]:
    async with asyncio.timeout(5):  # it waits for no lock
        return await record_and_claim.record_and_claim(
            link.fetch, successes(ended), offered, closed=[OLD_CLAIM], worker="w", claim_id=NEW_CLAIM
        )


@asynccontextmanager
async def locked(service: Service, *refs: TaskRef) -> AsyncIterator[None]:
    async with service.engine.begin() as elsewhere:
        for ref in refs:
            await elsewhere.exec_driver_sql("SELECT FROM aftercommit.tasks WHERE id = $1 FOR UPDATE", (ref.task_id,))
        yield


async def statuses(service: Service) -> dict[UUID, str]:
    return {row.id: row.status for row in await service.query("SELECT id, status FROM aftercommit.tasks")}


async def test_successes_are_recorded_and_others_claimed_in_one_commit(
    service: Service, link: DatabaseConnection, running: list[TaskRef], waiting: list[TaskRef]
) -> None:
    claimed, recorded = await run(link, running, waiting)
    assert ({task.ref for task in claimed}, recorded) == (set(waiting), succeeded(running))
    assert {(task.claim_id, task.worker, task.type, task.attempt) for task in claimed} == {(NEW_CLAIM, "w", "echo", 1)}
    rows = await service.query(
        "SELECT status, result::text, finished_at IS NULL, worker FROM aftercommit.tasks ORDER BY status"
    )
    assert [tuple(row) for row in rows] == [("running", None, True, "w")] * 2 + [("succeeded", "[1]", False, "w")] * 2
    (claim,) = await service.query("SELECT id, task_ids FROM aftercommit.claims")
    assert (claim.id, set(claim.task_ids)) == (NEW_CLAIM, {ref.task_id for ref in waiting})
    (commits,) = await service.query("SELECT count(DISTINCT xmin::text) FROM aftercommit.tasks")
    assert commits[0] == 1


async def test_locked_rows_are_skipped_on_both_sides_and_found_afterwards(
    service: Service, link: DatabaseConnection, running: list[TaskRef], waiting: list[TaskRef]
) -> None:
    async with locked(service, running[0], waiting[0]):
        claimed, recorded = await run(link, running, waiting)
        assert ({task.ref for task in claimed}, recorded) == ({waiting[1]}, succeeded(running[1:]))
        assert await record.find_running(link.fetch, successes(running)) == keys(running[:1])
        assert await claims.find_claimable(link.fetch, waiting[:1], worker="w") == {waiting[0]}
    # One of its tasks still runs, so the claim stays.
    assert {row.id for row in await service.query("SELECT id FROM aftercommit.claims")} == {OLD_CLAIM, NEW_CLAIM}


async def test_nothing_changes_when_it_runs_again_after_a_lost_answer(
    service: Service, link: DatabaseConnection, running: list[TaskRef], waiting: list[TaskRef]
) -> None:
    await run(link, running, waiting)
    before = await statuses(service)
    claimed, recorded = await run(link, running, waiting)
    assert ({(task.ref, task.attempt) for task in claimed}, recorded) == ({(ref, 1) for ref in waiting}, {})
    assert await statuses(service) == before


async def test_outcome_of_an_earlier_attempt_is_refused_while_the_task_s_new_dispatch_is_claimed(
    service: Service, link: DatabaseConnection, running: list[TaskRef]
) -> None:
    """The rescuer gave the task away, and its new message came to the worker that still has the old outcome."""
    given_away = running[0]
    await service.query(
        "UPDATE aftercommit.tasks SET status = 'queued', dispatch = 2 WHERE id = CAST(:id AS uuid)",
        id=str(given_away.task_id),
    )
    claimed, recorded = await run(link, [given_away], [given_away._replace(dispatch=2)])
    assert ([(task.ref.dispatch, task.attempt) for task in claimed], recorded) == ([(2, 2)], {})
    assert (await statuses(service))[given_away.task_id] == "running"
