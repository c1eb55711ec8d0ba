"""What a worker asks for, and what becomes of the messages."""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from aftercommit.core.errors import DatabaseUnavailable
from aftercommit.core.outcomes import Outcome
from aftercommit.core.queues import Priority, WorkQueue
from aftercommit.core.states import Event
from aftercommit.core.task_ref import TaskRef
from aftercommit.db import claims, record_and_claim
from aftercommit.db.claims import ClaimedTask
from aftercommit.db.outages import StatementRefused
from aftercommit.db.record import AttemptKey
from aftercommit.worker import outcome_policy
from aftercommit.worker.claim_signal import ClaimSignal
from aftercommit.worker.claimer import HELD_TRIES, Claimer
from aftercommit.worker.fetcher import Offer
from aftercommit.worker.recorder import Batch, Ended
from aftercommit.worker.statistics import Statistics
from tests.factories import a_claimed_task


class Settled:
    """Stands for a delivery of one ref."""

    def __init__(self) -> None:
        self.settled = 0
        self.delivery = SimpleNamespace(work_queue=WorkQueue("tasks", Priority.HIGH))

    def settle(self, refs: int) -> None:
        self.settled += refs


class Parts:
    """Stands for the parts around the claimer: what the fetcher has, which slots are free, what was started."""

    def __init__(self, *numbers: int, slots: int) -> None:
        self.waiting: list[Offer] = [(Settled(), TaskRef(UUID(int=number), 1)) for number in numbers]  # type: ignore[misc]  # no broker
        self.put: list[Offer] = []
        self.started: list[tuple[int, bool]] = []
        self.count = slots
        self.name: str | None = "worker"
        self.unrecorded: set[TaskRef] = set()
        self.refills: list[int] = []
        self.kept: list[UUID] = []
        self.held: list[Offer] = []
        self.batch: Batch | None = None
        self.written: list[Mapping[AttemptKey, Event]] = []
        self.given_back: list[Batch] = []

    @property
    def buffered(self) -> int:
        return len(self.waiting)

    @property
    def free(self) -> int:
        return self.count - len(self.started)

    def is_shut(self, _: object) -> bool:
        return False

    def take(self, slots: int, _rooms: Mapping[str, int]) -> list[Offer]:
        taken, self.waiting = self.waiting[:slots], self.waiting[slots:]
        return taken

    def refill(self, *, free_slots: int, rooms: Mapping[str, int]) -> None:  # noqa: ARG002  # by the fetcher's name
        self.refills.append(free_slots)

    def rooms(self) -> Mapping[str, int]:
        return {}

    def took(self, _: object) -> Counter[str]:
        return Counter()

    def answered(self, _taken: object, _claimed: object) -> None:
        pass

    def holds(self, name: str) -> bool:
        return self.name == name

    def hold(self, offer: Offer) -> None:
        self.held.append(offer)

    def put_back(self, offers: Sequence[Offer]) -> None:
        self.put += offers

    def start(self, task: ClaimedTask, *, still_ours: bool) -> None:
        self.started.append((task.id.int, still_ours))

    def lend(self) -> Batch | None:
        return self.batch

    def wrote(self, batch: Batch, taken: Mapping[AttemptKey, Event]) -> None:
        assert batch is self.batch
        self.written.append(taken)
        self.batch = None

    def failed(self, batch: Batch) -> None:
        self.given_back.append(batch)
        self.batch = None

    def expect(self, claim_id: UUID, tasks: Sequence[ClaimedTask], *, keep: bool = False) -> None:
        self.unrecorded |= {task.ref for task in tasks}
        if keep:
            self.kept.append(claim_id)


class Statements:
    """Stands for the statements: ``locked`` rows are skipped, ``stale`` ones do not match; each is asked by number."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.ids: list[UUID] = []
        self.locked: set[int] = set()
        self.stale: set[int] = set()
        self.lose_answer = False
        self.refuses = False
        self.closed: list[UUID] = []

    async def claim(self, _: Any, refs: Sequence[TaskRef], *, worker: str, claim_id: UUID) -> list[ClaimedTask]:
        self.asked.append(sorted(ref.task_id.int for ref in refs))
        self.ids.append(claim_id)
        if self.lose_answer:
            raise DatabaseUnavailable("the answer was lost")
        free = [ref for ref in refs if ref.task_id.int not in self.locked | self.stale]
        return [a_claimed_task(id=ref.task_id, claim_id=claim_id, worker=worker) for ref in free]

    async def find_claimable(self, _: Any, refs: Collection[TaskRef], *, worker: str) -> set[TaskRef]:
        assert worker == "worker"
        return {ref for ref in refs if ref.task_id.int in self.locked}

    async def record_and_claim(
        self,
        _: Any,
        outcomes: Sequence[Outcome],
        refs: Sequence[TaskRef],
        *,
        closed: Sequence[UUID],
        worker: str,
        claim_id: UUID,
    ) -> tuple[list[ClaimedTask], dict[AttemptKey, Event]]:
        if self.refuses:
            raise StatementRefused("no")
        self.closed += closed
        claimed = await self.claim(None, refs, worker=worker, claim_id=claim_id)
        return claimed, {(outcome.task_id, outcome.attempt): Event.SUCCEED for outcome in outcomes}


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    found = Statements()
    monkeypatch.setattr(claims, "claim", found.claim)
    monkeypatch.setattr(record_and_claim, "record_and_claim", found.record_and_claim)
    monkeypatch.setattr(claims, "find_claimable", found.find_claimable)
    return found


async def claim_all(claimer: Claimer) -> float:
    connection: Any = SimpleNamespace(fetch=None)
    return await claimer._claim_all(connection, asyncio.Event(), asyncio.Event())


def a_claimer(parts: Parts) -> Claimer:
    stand_in: Any = parts
    return Claimer(
        heartbeat=stand_in,
        connect=stand_in,
        fetcher=stand_in,
        slots=stand_in,
        recorder=stand_in,
        statistics=Statistics(),
        signal=ClaimSignal(),
        limits=stand_in,
    )


def settled(offers: Sequence[Offer]) -> list[int]:
    return [incoming.settled for incoming, _ in offers]


async def test_claims_are_for_free_slots_and_leave_some_for_the_next(statements: Statements) -> None:
    parts = Parts(*range(1, 11), slots=6)
    await claim_all(a_claimer(parts))
    assert statements.asked == [[1, 2, 3], [4, 5, 6]]
    assert len(parts.waiting) == 4
    assert parts.refills == [0, 0]


async def test_stale_messages_are_acknowledged_and_start_nothing(statements: Statements) -> None:
    parts = Parts(1, 2, slots=10)
    offers = list(parts.waiting)
    statements.stale = {1}
    await claim_all(a_claimer(parts))
    assert (parts.started, settled(offers)) == ([(2, True)], [1, 1])


async def test_second_message_for_what_runs_here_is_acknowledged_unasked(statements: Statements) -> None:
    parts = Parts(1, slots=10)
    offers = list(parts.waiting)
    parts.unrecorded = {offers[0][1]}
    await claim_all(a_claimer(parts))
    assert (statements.asked, settled(offers)) == ([], [1])


async def test_locked_rows_are_asked_again_after_growing_waits_and_their_messages_kept(statements: Statements) -> None:
    parts = Parts(1, 2, slots=10)
    offers = list(parts.waiting)
    statements.locked = {1}
    claimer = a_claimer(parts)
    wait = await claim_all(claimer)
    assert 0 < wait <= 0.06
    assert (parts.started, settled(offers)) == ([(2, True)], [0, 1])
    await asyncio.sleep(wait)
    wait = await claim_all(claimer)
    assert 0.06 < wait <= 0.1
    statements.locked = set()
    await asyncio.sleep(wait)
    await claim_all(claimer)
    assert statements.asked == [[1, 2], [1], [1]]
    assert (parts.started, settled(offers)) == ([(2, True), (1, True)], [1, 1])


async def test_message_whose_row_stays_locked_is_held(statements: Statements) -> None:
    parts = Parts(1, slots=10)
    (offer,) = parts.waiting
    statements.locked = {1}
    claimer = a_claimer(parts)
    for _ in range(HELD_TRIES - 1):
        await asyncio.sleep(await claim_all(claimer))
    assert parts.held == []
    await claim_all(claimer)
    assert parts.held == [offer]


async def test_locked_rows_that_are_due_do_not_spin_while_no_slot_is_free(statements: Statements) -> None:
    parts = Parts(1, 2, slots=2)
    statements.locked = {1}
    claimer = a_claimer(parts)
    await claim_all(claimer)
    parts.count = 1
    await asyncio.sleep(0.06)
    assert await claim_all(claimer) > 0


async def test_claim_whose_answer_was_lost_is_asked_again_unchanged(statements: Statements) -> None:
    parts = Parts(1, 2, slots=10)
    claimer = a_claimer(parts)
    statements.lose_answer = True
    with pytest.raises(DatabaseUnavailable):
        await claim_all(claimer)
    statements.lose_answer = False
    await claim_all(claimer)
    assert statements.asked == [[1, 2]] * 2
    assert len(set(statements.ids)) == 1


async def test_claim_that_is_asked_again_and_meets_a_locked_row_is_kept(statements: Statements) -> None:
    """The first time may have claimed that row, and only this claim says so to the rescuer."""
    parts = Parts(1, 2, slots=10)
    claimer = a_claimer(parts)
    statements.lose_answer = True
    with pytest.raises(DatabaseUnavailable):
        await claim_all(claimer)
    statements.lose_answer, statements.locked = False, {2}
    await claim_all(claimer)
    assert parts.kept == [statements.ids[0]]
    statements.locked = set()
    await asyncio.sleep(0.06)
    await claim_all(claimer)
    assert len(parts.kept) == 1


async def test_unanswered_claim_of_a_lost_lease_is_put_back(statements: Statements) -> None:
    parts = Parts(1, slots=10)
    offers = list(parts.waiting)
    claimer = a_claimer(parts)
    statements.lose_answer = True
    with pytest.raises(DatabaseUnavailable):
        await claim_all(claimer)
    parts.name = "another"
    await claim_all(claimer)
    assert (parts.put, statements.asked) == (offers, [[1]])


async def test_nothing_is_asked_without_a_lease(statements: Statements) -> None:
    parts = Parts(1, slots=10)
    parts.name = None
    await claim_all(a_claimer(parts))
    assert statements.asked == []


def a_batch() -> Batch:
    ended = a_claimed_task(id=UUID(int=77))
    return Batch([Ended(ended, outcome_policy.succeeded(ended, "1"))], [UUID(int=7)])


async def test_claim_takes_along_what_waits_to_be_recorded(statements: Statements) -> None:
    parts = Parts(1, slots=10)
    batch = parts.batch = a_batch()
    await claim_all(a_claimer(parts))
    assert (parts.started, parts.written, parts.given_back) == ([(1, True)], [{batch.ended[0].key: Event.SUCCEED}], [])
    assert statements.closed == [UUID(int=7)]


async def test_claim_goes_on_alone_when_an_outcome_is_refused(statements: Statements) -> None:
    parts = Parts(1, slots=10)
    batch = parts.batch = a_batch()
    statements.refuses = True
    await claim_all(a_claimer(parts))
    assert (parts.started, parts.written, parts.given_back) == ([(1, True)], [], [batch])


async def test_lost_answer_gives_back_the_outcomes_and_keeps_the_claim(statements: Statements) -> None:
    parts = Parts(1, slots=10)
    batch = parts.batch = a_batch()
    statements.lose_answer = True
    claimer = a_claimer(parts)
    with pytest.raises(DatabaseUnavailable):
        await claim_all(claimer)
    assert (parts.started, parts.written, parts.given_back) == ([], [], [batch])
    statements.lose_answer = False
    await claim_all(claimer)
    assert (parts.started, statements.asked) == ([(1, True)], [[1], [1]])
