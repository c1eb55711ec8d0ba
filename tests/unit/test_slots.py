"""When a slot comes free, and how attempts end when the worker stops or its lease is lost."""

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from aftercommit import Handler, task
from aftercommit.core.outcomes import CancelReason
from aftercommit.core.settings import Settings
from aftercommit.core.states import Event
from aftercommit.db.database import DatabaseConnection
from aftercommit.runtime.notifier import Notifier
from aftercommit.worker import slots
from aftercommit.worker.claim_signal import ClaimSignal
from aftercommit.worker.recorder import Ended, Recorder
from aftercommit.worker.registry import Handlers
from aftercommit.worker.slots import Slots
from aftercommit.worker.statistics import Statistics
from tests.factories import NOW, a_claimed_task, an_executor


class Outcomes(Recorder):
    """Keeps what it is given."""

    def __init__(self, settings: Settings) -> None:
        connection = DatabaseConnection(settings, application="test")
        super().__init__(connection, Notifier(connection), Statistics())
        self.ended: list[Ended] = []

    def add(self, ended: Ended) -> None:
        self.ended.append(ended)

    @property
    def endings(self) -> list[Event]:
        return [ended.outcome.ending for ended in self.ended]


class Ground:
    """Slots whose attempts run ``handler``."""

    def __init__(self, handler: Handler) -> None:
        settings = Settings(_env_file=None)
        self.outcomes = Outcomes(settings)
        self.work = asyncio.Event()
        self.signal = ClaimSignal()
        self.signal.rest(self.work)
        self.statistics = Statistics()
        self.slots = Slots(
            5,
            executor=an_executor(Handlers({handler.type: handler}, ("tests",))),
            recorder=self.outcomes,
            statistics=self.statistics,
            signal=self.signal,
        )

    def start(self, **fields: Any) -> None:
        claimed = a_claimed_task(**fields)
        self.statistics.claimed([claimed])
        self.slots.start(claimed)


@task("test")
async def sleep() -> None:
    await asyncio.sleep(60)


async def with_a_blocked_thread() -> tuple[Ground, threading.Event]:
    """A ground with a thread in its only attempt, and what lets that return."""
    begun, release = threading.Event(), threading.Event()

    @task("test")
    def function() -> None:
        begun.set()
        release.wait(30)

    ground = Ground(function)
    ground.start()
    await asyncio.to_thread(begun.wait, 10)
    return ground, release


class Lease:
    """Of a heartbeat: the name, and when it changed."""

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.changed = asyncio.Event()

    async def next_change(self, _stopping: asyncio.Event) -> None:
        await self.changed.wait()
        self.changed.clear()


async def test_attempts_of_a_lost_lease_are_cancelled_although_another_lease_replaced_it() -> None:
    ground, lease, stopping = Ground(sleep), Lease("old"), asyncio.Event()
    ground.start(worker="old")
    watching = asyncio.create_task(ground.slots.watch(lease, stopping))  # type: ignore[arg-type]  # what it needs of one
    await asyncio.sleep(0)
    lease.name = "new"  # lost and replaced before the loop looked
    ground.start(worker="new")
    stopping.set()
    lease.changed.set()
    await watching
    await ground.work.wait()
    while ground.slots.taken > 1:
        await asyncio.sleep(0.01)
    assert [(ended.task.worker, ended.outcome.ending) for ended in ground.outcomes.ended] == [("old", Event.RELEASE)]
    await ground.slots.drain(0.01)


async def test_slot_stays_taken_while_its_thread_runs_whatever_is_cancelled() -> None:
    ground, release = await with_a_blocked_thread()
    lease = Lease(None)
    for _ in range(2):
        lease.changed.set()
        stopping = asyncio.Event()
        watching = asyncio.create_task(ground.slots.watch(lease, stopping))  # type: ignore[arg-type]  # what it needs of one
        await asyncio.sleep(0.05)
        watching.cancel()
    await ground.slots.drain(0.1)
    assert ground.outcomes.endings == [Event.RELEASE]
    assert ground.slots.taken == 1
    ground.work.clear()
    ground.signal.rest(ground.work)
    release.set()
    async with asyncio.timeout(10):
        await ground.work.wait()
    assert ground.slots.taken == 0


async def test_attempt_is_cut_at_its_deadline_and_one_that_was_claimed_again_after_it_never_begins() -> None:
    ground = Ground(sleep)
    ground.start(expires_at=NOW)
    assert (ground.slots.taken, ground.outcomes.endings) == (0, [Event.CUT])
    ground.start(expires_at=NOW + timedelta(seconds=0.2))
    assert ground.slots.taken == 1
    async with asyncio.timeout(10):
        while ground.slots.taken:
            await asyncio.sleep(0.01)
    assert ground.outcomes.endings == [Event.CUT, Event.CUT]


async def test_task_that_is_cancelling_has_no_outcome_while_its_thread_runs_not_even_at_shutdown() -> None:
    """Its worker's lease must lapse before anybody else ends it."""
    ground, release = await with_a_blocked_thread()
    (attempt,) = ground.slots.uncancelled
    attempt.cancel(CancelReason.REQUESTED)
    assert ground.slots.uncancelled == []
    await ground.slots.drain(0.1)
    assert (ground.outcomes.endings, ground.slots.cancelling) == ([], 1)
    release.set()
    async with asyncio.timeout(10):
        while ground.slots.taken:
            await asyncio.sleep(0.01)
    assert ground.slots.cancelling == 0
    assert len(ground.outcomes.endings) == 1


async def test_handler_may_clean_up_for_the_rest_of_the_shutdown_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "CLEANUP_PART", 0.9)
    cleaned = []

    @task("test")
    async def function() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(1.5)  # longer than a second
            cleaned.append(True)

    ground = Ground(function)
    ground.start()
    await asyncio.sleep(0)
    await ground.slots.drain(5)
    assert (cleaned, ground.outcomes.endings) == ([True], [Event.RELEASE])


async def test_handler_that_does_not_end_is_released_once_at_the_end_of_the_shutdown_time() -> None:
    @task("test")
    async def stubborn() -> str:
        until = asyncio.get_running_loop().time() + 1
        while (left := until - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                continue
        return "too late"

    ground = Ground(stubborn)
    ground.start()
    await asyncio.sleep(0)
    await ground.slots.drain(0.5)
    assert ground.outcomes.endings == [Event.RELEASE]
    while ground.slots.taken:
        await asyncio.sleep(0.05)
    assert ground.outcomes.endings == [Event.RELEASE]


async def test_thread_has_the_whole_shutdown_time_to_return() -> None:
    ground, release = await with_a_blocked_thread()
    asyncio.get_running_loop().call_later(2.6, release.set)
    await ground.slots.drain(3.0)
    assert ground.outcomes.endings == [Event.SUCCEED]


async def test_attempt_that_has_not_begun_is_released_at_once_at_shutdown() -> None:
    ground = Ground(sleep)
    ground.start()
    async with asyncio.timeout(5):
        await ground.slots.drain(60)
    assert ground.outcomes.endings == [Event.RELEASE]


@pytest.mark.parametrize("still_ours", [True, False])
async def test_task_whose_lease_was_lost_at_its_claim_is_released_without_running(still_ours: bool) -> None:
    ground = Ground(sleep)
    ground.slots.start(a_claimed_task(), still_ours=still_ours)
    assert ground.slots.taken == still_ours
    assert ground.outcomes.endings == ([] if still_ours else [Event.RELEASE])
    await ground.slots.drain(0.01)
