"""One attempt: how it ends, whatever the handler does, and whatever cancels it."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from aftercommit import Context, Delays, Fail, Handler, Snooze, task
from aftercommit.core.outcomes import CancelReason, Outcome
from aftercommit.core.retries import Delay
from aftercommit.core.settings import Settings
from aftercommit.core.states import Event
from aftercommit.db.progress import Progress
from aftercommit.worker.attempt import Attempt
from aftercommit.worker.executor import Executor
from aftercommit.worker.handler_threads import HandlerThreads
from aftercommit.worker.registry import Handlers
from aftercommit.worker.type_filter import TypeFilter
from tests.factories import NOW, a_claimed_task, an_executor


def executor_of(handler: Handler, **options: Any) -> Executor:
    return an_executor(Handlers({handler.type: handler}, ("tests",)), **options)


def started(executor: Executor, **fields: Any) -> tuple[Attempt, asyncio.Task[Outcome]]:
    attempt = Attempt(a_claimed_task(**fields))
    running = attempt.runner = asyncio.create_task(executor.run(attempt))
    return attempt, running


class Begun:
    """A handler that tells when it has begun, and how it was cancelled."""

    def __init__(self, *, cleanup_seconds: float = 0.0, then: BaseException | None = None) -> None:
        self.begun = asyncio.Event()
        self.cancels = 0
        self.cleaned = False
        self._cleanup_seconds = cleanup_seconds
        self._then = then

    def handler(self) -> Handler:
        @task("test")
        async def function() -> str:
            self.begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancels += 1
                await self._clean_up()
                if self._then is not None:
                    raise self._then from None
            return "returned"

        return function

    async def _clean_up(self) -> None:
        try:
            await asyncio.sleep(self._cleanup_seconds)
            self.cleaned = True
        except asyncio.CancelledError:
            self.cancels += 1
            raise


@pytest.mark.parametrize("payload", ["[1]", "7", "null", "[" * 100_000, '{"n": ' + "9" * 5_000 + "}", "{broken"])
async def test_payload_that_cannot_be_read_fails_its_own_task_for_good(payload: str) -> None:
    outcome = await started(executor_of(Begun().handler()), payload=payload)[1]
    assert outcome.ending is Event.FAIL
    assert "InvalidPayload: the payload of test" in (outcome.reason or "")


ENDINGS = {
    CancelReason.SHUTDOWN: Event.RELEASE,
    CancelReason.LEASE_LOST: Event.RELEASE,
    CancelReason.REQUESTED: Event.STOP,
    CancelReason.EXPIRED: Event.CUT,
}


@pytest.mark.parametrize("reason", CancelReason)
@pytest.mark.parametrize("then", [asyncio.CancelledError(), RuntimeError("cleaning up failed"), Fail("never")])
async def test_cancelled_attempt_that_does_not_return_ends_as_its_reason_says(
    reason: CancelReason, then: BaseException
) -> None:
    begun = Begun(then=then)
    attempt, running = started(executor_of(begun.handler()))
    await begun.begun.wait()
    attempt.cancel(reason)
    assert (await running).ending is ENDINGS[reason]


async def test_cancelled_attempt_that_returns_has_succeeded() -> None:
    begun = Begun()
    attempt, running = started(executor_of(begun.handler()))
    await begun.begun.wait()
    attempt.cancel(CancelReason.SHUTDOWN)
    assert (await running).result == '"returned"'


async def test_second_cancel_does_not_interrupt_the_handler_as_it_cleans_up() -> None:
    begun = Begun(cleanup_seconds=0.05)
    attempt, running = started(executor_of(begun.handler()))
    await begun.begun.wait()
    attempt.cancel(CancelReason.LEASE_LOST)
    await asyncio.sleep(0)
    attempt.cancel(CancelReason.SHUTDOWN)
    await running
    assert (begun.cancels, begun.cleaned, attempt.cancel_reason) == (1, True, CancelReason.LEASE_LOST)


async def test_timeout_does_not_interrupt_a_handler_that_cleans_up_at_shutdown() -> None:
    begun = Begun(cleanup_seconds=0.3)
    attempt, running = started(executor_of(begun.handler()), timeout_seconds=0.1)
    await begun.begun.wait()
    attempt.cancel(CancelReason.SHUTDOWN)
    await running
    assert (begun.cancels, begun.cleaned) == (1, True)


async def test_timeout_cancels_a_handler_again_that_goes_on_after_a_cancel_on_request() -> None:
    begun = Begun(cleanup_seconds=60, then=asyncio.CancelledError())
    attempt, running = started(executor_of(begun.handler()), timeout_seconds=0.1)
    await begun.begun.wait()
    attempt.cancel(CancelReason.REQUESTED)
    assert (await running).ending is Event.STOP
    assert (begun.cancels, begun.cleaned) == (2, False)


async def test_cancel_that_the_handler_raises_itself_is_its_failure() -> None:
    @task("test")
    async def function() -> None:
        raise asyncio.CancelledError

    assert (await started(executor_of(function))[1]).ending is Event.RETRY


async def test_attempt_is_not_swallowed_when_the_loop_is_closed() -> None:
    begun = Begun(then=asyncio.CancelledError())
    _, running = started(executor_of(begun.handler()))
    await begun.begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.fixture
async def threads() -> AsyncIterator[HandlerThreads]:
    single = HandlerThreads(1)
    yield single
    single.close()


async def test_sync_call_that_waits_for_a_thread_never_begins_after_its_timeout(threads: HandlerThreads) -> None:
    release, calls = threading.Event(), []

    @task("test")
    def function(number: int) -> None:
        calls.append(number)
        release.wait(10)

    executor = executor_of(function, threads=threads)
    _, first = started(executor, payload='{"number": 1}', timeout_seconds=0.2)
    second, waits = started(executor, payload='{"number": 2}', timeout_seconds=0.2)
    assert [(await first).reason, (await waits).reason] == ["TimedOut: test did not end within 0.2 s"] * 2
    release.set()
    assert second.thread is not None
    await asyncio.wait([second.thread], timeout=5)
    # A later call shows that the thread has gone through what waited.
    await started(executor, payload='{"number": 3}', timeout_seconds=5)[1]
    assert calls == [1, 3]


async def test_thread_is_asked_to_stop_and_no_timeout_ends_its_attempt_before_it_has_returned() -> None:
    begun, release, seen = threading.Event(), threading.Event(), []

    @task("test")
    def function(context: Context) -> str:
        begun.set()
        while not context.cancelled:
            release.wait(0.01)
        seen.append(context.cancelled)
        release.wait(10)
        return "in vain"

    attempt, running = started(executor_of(function), timeout_seconds=0.2)
    await asyncio.to_thread(begun.wait, 10)
    attempt.cancel(CancelReason.REQUESTED)
    await asyncio.wait([running], timeout=0.5)  # longer than the timeout
    assert not running.done()
    release.set()
    # It is the record's to make a cancel of this.
    assert (await running).result == '"in vain"'
    assert seen == [True]


async def test_thread_sees_that_its_timeout_has_struck() -> None:
    seen = asyncio.Event()
    loop = asyncio.get_running_loop()

    @task("test")
    def function(context: Context) -> None:
        while not context.cancelled:
            time.sleep(0.01)  # between two looks: a thread can look, and not be called
        loop.call_soon_threadsafe(seen.set)

    _, running = started(executor_of(function), timeout_seconds=0.1)
    assert (await running).reason == "TimedOut: test did not end within 0.1 s"
    async with asyncio.timeout(10):
        await seen.wait()


@pytest.mark.parametrize(("expires_in", "seconds"), [(None, 30), (100, 30), (20, 20)])
async def test_context_tells_the_nearer_of_timeout_and_deadline(expires_in: float | None, seconds: float) -> None:
    seen: list[Any] = []

    @task("test")
    async def function(context: Context) -> None:
        with attempt.clock.stopped():
            await asyncio.sleep(0.01)
        seen.extend([context.expires_at, context.deadline - NOW])

    expires_at = None if expires_in is None else NOW + timedelta(seconds=expires_in)
    attempt, running = started(executor_of(function), timeout_seconds=30, expires_at=expires_at)
    await running
    assert seen[0] == expires_at
    assert timedelta(seconds=seconds) <= seen[1] <= timedelta(seconds=seconds + (0 if seconds == 20 else 5))


async def test_clock_that_stands_moves_the_timeout_and_the_deadline() -> None:
    """The handler runs for longer than its timeout, most of it off its clock."""
    seen: list[timedelta] = []

    @task("test")
    async def function(context: Context) -> None:
        with attempt.clock.stopped():
            await asyncio.sleep(0.5)
        seen.append(context.deadline - NOW)

    attempt, running = started(executor_of(function), timeout_seconds=0.4)
    assert (await running).ending is Event.SUCCEED
    assert timedelta(seconds=0.9) <= seen[0] < timedelta(seconds=5)
    assert attempt.clock.started_at - NOW == seen[0] - timedelta(seconds=0.4)
    assert attempt.clock.elapsed_seconds < 0.4


async def test_timeout_strikes_after_the_clock_went_on() -> None:
    @task("test")
    async def function() -> None:
        with attempt.clock.stopped():
            await asyncio.sleep(0.2)
        await asyncio.sleep(60)

    attempt, running = started(executor_of(function), timeout_seconds=0.1)
    assert (await running).reason == "TimedOut: test did not end within 0.1 s"


async def test_settings_bound_what_neither_task_nor_handler_bounds() -> None:
    begun = Begun(then=asyncio.CancelledError())
    settings = Settings(_env_file=None, task_timeout_seconds=0.05)
    _, running = started(executor_of(begun.handler(), settings=settings))
    assert (await running).reason == "TimedOut: test did not end within 0.05 s"


@pytest.mark.parametrize(
    ("own", "delay"),
    [
        ('{"delays_seconds": [30]}', Delay(30, True)),
        (None, Delay(7, False)),
        ('{"fibonacci": [1, 1, 2]}', Delay(7, False)),
        ("[" * 100_000, Delay(7, False)),
    ],
)
async def test_own_delays_that_only_another_release_understands_are_left_to_the_handler(
    own: str | None, delay: Delay
) -> None:
    @task("test", retry=Delays(7))
    async def function() -> None:
        raise RuntimeError

    outcome = await started(executor_of(function), retry=own)[1]
    assert (outcome.ending, outcome.delay) == (Event.RETRY, delay)


async def test_snooze_is_an_outcome_of_its_own() -> None:
    @task("test", fail_on=(Exception,), max_retries=0)
    async def function() -> None:
        raise Snooze(30)

    outcome = await started(executor_of(function))[1]
    assert (outcome.ending, outcome.delay) == (Event.SNOOZE, Delay(30, True))


@pytest.mark.parametrize("is_async", [True, False])
async def test_progress_is_told_of_the_attempt_in_text_that_can_be_stored(is_async: bool) -> None:
    told: list[Progress] = []

    def function(context: Context) -> None:
        context.progress(0.4, "page\x00 \ud800")

    async def same(context: Context) -> None:
        function(context)

    executor = executor_of(task("test")(same if is_async else function), tell_progress=told.append)
    attempt, running = started(executor, attempt=3)
    assert (await running).ending is Event.SUCCEED
    assert told == [Progress(attempt.task.id, 3, 0.4, "page\N{REPLACEMENT CHARACTER} ?")]


async def test_type_that_the_worker_does_not_know_is_released_and_has_later_ones_sorted() -> None:
    handlers = Handlers({}, ("one", "two"))
    types = TypeFilter(handlers.by_type)
    outcome = await an_executor(handlers, types=types).run(Attempt(a_claimed_task(type="other")))
    assert (outcome.ending, types.on) == (Event.RELEASE, True)
    assert outcome.error is not None
    assert "no handler for 'other': worker has one, two" in outcome.error
