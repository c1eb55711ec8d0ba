"""Which outcomes share a statement, and what happens to those that cannot be written."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from aftercommit.core.errors import DatabaseTimeout, DatabaseUnavailable
from aftercommit.core.outcomes import Outcome
from aftercommit.core.settings import Settings
from aftercommit.core.states import Event
from aftercommit.db import claims, record
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.outages import StatementRefused
from aftercommit.db.record import AttemptKey
from aftercommit.runtime.notifier import Notifier
from aftercommit.worker import outcome_policy, recorder
from aftercommit.worker.recorder import Batch, Ended, Recorder
from aftercommit.worker.statistics import Statistics
from tests.factories import a_claimed_task


class Statements:
    """Stands for the statements: tasks whose number is in ``bad`` fail the statement with ``error``, rows in ``locked``
    are skipped, tasks in ``gone`` are fenced out."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.error: type[Exception] = StatementRefused
        self.bad: set[int] = set()
        self.locked: set[int] = set()
        self.gone: set[int] = set()
        self.forgotten: list[UUID] = []
        self.endings: dict[int, Event] = {}
        self.find_fails = False

    async def record(self, _: Any, outcomes: Sequence[Outcome], *, closed: Sequence[UUID]) -> dict[AttemptKey, Event]:
        numbers = [outcome.task_id.int for outcome in outcomes]
        self.batches.append(numbers)
        if any(outcome.task_id.int in self.bad and outcome.ending is Event.SUCCEED for outcome in outcomes):
            raise self.error("no")
        taken = [each for each in outcomes if each.task_id.int not in self.locked | self.gone]
        self.endings |= {outcome.task_id.int: outcome.ending for outcome in taken}
        if len(taken) == len(outcomes):
            self.forgotten += closed
        return {(outcome.task_id, outcome.attempt): outcome.ending for outcome in taken}

    async def find_running(self, _: Any, outcomes: Sequence[Outcome]) -> set[AttemptKey]:
        if self.find_fails:
            raise DatabaseUnavailable("away")
        return {(outcome.task_id, outcome.attempt) for outcome in outcomes if outcome.task_id.int in self.locked}

    async def forget(self, _: Any, claim_ids: Sequence[UUID]) -> None:
        self.forgotten += claim_ids


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    found = Statements()
    monkeypatch.setattr(record, "record", found.record)
    monkeypatch.setattr(record, "find_running", found.find_running)
    monkeypatch.setattr(claims, "forget", found.forget)
    return found


@pytest.fixture
def statistics() -> Statistics:
    return Statistics()


@pytest.fixture
async def a_recorder(statistics: Statistics) -> Recorder:
    connection = DatabaseConnection(Settings(_env_file=None), application="test")
    return Recorder(connection, Notifier(connection), statistics)


CLAIM = UUID(int=99)


def give(to: Recorder, *numbers: int, claim_id: UUID = CLAIM, keep: bool = False) -> None:
    """Successes of one claim."""
    tasks = [a_claimed_task(id=UUID(int=number), claim_id=claim_id) for number in numbers]
    to.expect(claim_id, tasks, keep=keep)
    for task in tasks:
        to.add(Ended(task, outcome_policy.succeeded(task, "1")))


def lent(by: Recorder) -> Batch:
    batch = by.lend()
    assert batch is not None
    return batch


async def tick_until_idle(on: Recorder) -> None:
    while await on.tick() == 0:
        pass


async def test_outcomes_share_a_statement_that_closes_their_claim(
    statements: Statements, a_recorder: Recorder, statistics: Statistics
) -> None:
    give(a_recorder, 1, 2, 3)
    assert len(a_recorder.unrecorded) == 3
    assert await a_recorder.tick() == recorder.IDLE_SECONDS
    assert (statements.batches, statements.forgotten) == ([[1, 2, 3]], [CLAIM])
    assert a_recorder.unrecorded == set()
    assert statistics.outcomes == {"succeed": 3}


async def test_locked_rows_wait_for_another_try_while_the_others_are_in(
    statements: Statements, a_recorder: Recorder, statistics: Statistics
) -> None:
    statements.locked = {2}
    give(a_recorder, 1, 2, 3)
    first_wait = await a_recorder.tick()
    assert 0 < first_wait <= 0.05
    assert set(statements.endings) == {1, 3}
    assert ({ref.task_id.int for ref in a_recorder.unrecorded}, statements.forgotten) == ({2}, [])
    await asyncio.sleep(first_wait)
    assert 0.05 < await a_recorder.tick() <= 0.1
    statements.locked = set()
    await asyncio.sleep(0.1)
    await a_recorder.tick()
    assert statements.batches == [[1, 2, 3], [2], [2]]
    assert (statements.forgotten, a_recorder.unrecorded) == ([CLAIM], set())
    assert statistics.outcomes == {"succeed": 3}


async def test_drain_waits_for_locked_rows(statements: Statements, a_recorder: Recorder) -> None:
    statements.locked = {1}
    give(a_recorder, 1)
    await a_recorder.tick()
    draining = asyncio.create_task(a_recorder.drain(30))
    await asyncio.sleep(0.06)
    assert not draining.done()
    statements.locked = set()
    await a_recorder.tick()
    await draining


async def test_fenced_out_outcome_is_counted_as_refused_and_its_claim_closed(
    statements: Statements, a_recorder: Recorder, statistics: Statistics
) -> None:
    statements.gone = {1}
    give(a_recorder, 1, 2)
    await a_recorder.tick()
    assert statistics.outcomes == {"succeed": 1, "refused": 1}
    assert (statements.forgotten, a_recorder.unrecorded) == ([CLAIM], set())


async def test_claim_that_is_over_is_closed_although_the_look_at_what_was_missing_failed(
    statements: Statements, a_recorder: Recorder
) -> None:
    other = UUID(int=98)
    statements.locked, statements.find_fails = {2}, True
    give(a_recorder, 1)
    give(a_recorder, 2, claim_id=other)
    with pytest.raises(DatabaseUnavailable):
        await a_recorder.tick()
    statements.find_fails = False
    wait = await a_recorder.tick()
    assert statements.forgotten == [CLAIM]
    statements.locked = set()
    await asyncio.sleep(wait)
    await a_recorder.tick()
    assert statements.forgotten == [CLAIM, other]


async def test_claim_that_is_to_be_kept_is_not_closed(statements: Statements, a_recorder: Recorder) -> None:
    give(a_recorder, 1, keep=True)
    await a_recorder.tick()
    assert (set(statements.endings), statements.forgotten, a_recorder.unrecorded) == ({1}, [], set())


async def test_refused_value_is_found_by_halves_and_becomes_a_failure(
    statements: Statements, a_recorder: Recorder
) -> None:
    statements.bad = {70}
    give(a_recorder, *range(1, 101))
    await tick_until_idle(a_recorder)
    assert {number for number, ending in statements.endings.items() if ending is Event.FAIL} == {70}
    assert len(statements.endings) == 100
    assert len(statements.batches) < 25


async def test_statement_that_takes_too_long_goes_on_by_halves_and_alone_it_waits(
    statements: Statements, a_recorder: Recorder
) -> None:
    statements.bad, statements.error = {3}, DatabaseTimeout
    give(a_recorder, *range(1, 9))
    await tick_until_idle(a_recorder)
    assert set(statements.endings) == {1, 2, 4, 5, 6, 7, 8}
    statements.bad = set()
    await asyncio.sleep(0.06)
    await tick_until_idle(a_recorder)
    assert statements.endings[3] is Event.SUCCEED


async def test_claim_takes_along_the_successes_that_wait_and_closes_their_claim(
    statements: Statements, a_recorder: Recorder, statistics: Statistics
) -> None:
    give(a_recorder, 1, 2)
    batch = lent(a_recorder)
    assert ([outcome.task_id.int for outcome in batch.outcomes], batch.closed) == ([1, 2], [CLAIM])
    a_recorder.wrote(batch, {ended.key: Event.SUCCEED for ended in batch.ended})
    assert (statistics.outcomes, a_recorder.unrecorded) == ({"succeed": 2}, set())
    await a_recorder.drain(5)
    assert statements.batches == []


async def test_one_batch_is_written_at_a_time(statements: Statements, a_recorder: Recorder) -> None:
    """Else two batches might each leave a claim to the other."""
    give(a_recorder, 1)
    batch = lent(a_recorder)
    give(a_recorder, 2, claim_id=UUID(int=98))
    assert a_recorder.lend() is None
    assert await a_recorder.tick() > 0
    assert statements.batches == []
    a_recorder.wrote(batch, {batch.ended[0].key: Event.SUCCEED})
    await a_recorder.tick()
    assert statements.batches == [[2]]


@pytest.mark.parametrize("recorded", [True, False])
async def test_other_outcomes_than_plain_successes_are_not_lent(a_recorder: Recorder, recorded: bool) -> None:
    done = a_claimed_task(id=UUID(int=1), claim_id=CLAIM)
    a_recorder.expect(CLAIM, [done])
    outcome = outcome_policy.succeeded(done, "1") if recorded else outcome_policy.released(done, "stopped")
    a_recorder.add(Ended(done, outcome, recorded))
    assert a_recorder.lend() is None


async def test_batch_that_a_claim_failed_to_write_is_written_alone(
    statements: Statements, a_recorder: Recorder
) -> None:
    give(a_recorder, 1, 2)
    a_recorder.failed(lent(a_recorder))
    assert a_recorder.lend() is None
    await a_recorder.tick()
    assert (statements.batches, statements.forgotten) == ([[1, 2]], [CLAIM])


async def test_what_a_claim_s_statement_missed_is_looked_at(
    statements: Statements, a_recorder: Recorder, statistics: Statistics
) -> None:
    statements.gone = {1}
    give(a_recorder, 1)
    a_recorder.wrote(lent(a_recorder), {})
    await tick_until_idle(a_recorder)
    assert (statements.batches, statistics.outcomes) == ([[1]], {"refused": 1})
    assert (statements.forgotten, a_recorder.unrecorded) == ([CLAIM], set())


async def test_outcome_waits_for_the_next_claim_while_claims_follow_each_other(
    statements: Statements, a_recorder: Recorder
) -> None:
    stopping = asyncio.Event()
    running = asyncio.create_task(a_recorder.run(stopping))
    await asyncio.sleep(0)
    a_recorder.lend()
    a_recorder.lend()
    give(a_recorder, 1)
    for _ in range(5):
        await asyncio.sleep(0)
    assert statements.batches == []
    await a_recorder.drain(5)  # no claim came
    assert statements.batches == [[1]]
    stopping.set()
    await running


async def test_outage_keeps_every_outcome(statements: Statements, a_recorder: Recorder) -> None:
    statements.bad, statements.error = {2}, DatabaseUnavailable
    give(a_recorder, 1, 2, 3)
    with pytest.raises(DatabaseUnavailable):
        await a_recorder.tick()
    statements.bad = set()
    await a_recorder.tick()
    assert statements.batches == [[1, 2, 3]] * 2
    assert len(statements.endings) == 3
