"""The slots of a worker: how many attempts run at a time, and how they end when the worker stops or loses its lease."""

import asyncio
import functools
import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import structlog

from aftercommit.core.outcomes import CancelReason, Outcome
from aftercommit.db.claims import ClaimedTask
from aftercommit.runtime.poll import first_of
from aftercommit.worker import outcome_policy
from aftercommit.worker.attempt import Attempt
from aftercommit.worker.claim_signal import ClaimSignal
from aftercommit.worker.executor import Executor
from aftercommit.worker.heartbeat import Heartbeat
from aftercommit.worker.recorder import Ended, Recorder
from aftercommit.worker.statistics import Statistics

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 0.1

CLEANUP_PART: Final = 0.2
"""The last part of the shutdown time, in which cancelled handlers may clean up."""


class Slots:
    """``signal`` hears of each slot that comes free. A slot stays taken while a thread of its attempt runs, even after
    the attempt ended."""

    def __init__(
        self, count: int, *, executor: Executor, recorder: Recorder, statistics: Statistics, signal: ClaimSignal
    ) -> None:
        self.count = count
        self._executor = executor
        self._recorder = recorder
        self._statistics = statistics
        self._signal = signal
        self._attempts: set[Attempt] = set()
        self.taken_by: Final[Counter[str]] = Counter()
        """Slots by queue."""
        self._tells_starts = log.is_enabled_for(logging.DEBUG)

    @property
    def uncancelled(self) -> list[Attempt]:
        """The attempts that run and have no reason to end yet."""
        return [attempt for attempt in self._attempts if attempt.cancel_reason is None and not attempt.ended]

    @property
    def cancelling(self) -> int:
        """How many attempts were to be cancelled on request, and have not stopped."""
        return sum(each.cancel_reason is CancelReason.REQUESTED and not each.ended for each in self._attempts)

    @property
    def taken(self) -> int:
        return len(self._attempts)

    @property
    def free(self) -> int:
        return self.count - len(self._attempts)

    def start(self, task: ClaimedTask, *, still_ours: bool = True) -> None:
        """Run a claimed task. One that is not ``still_ours``, since the lease was lost meanwhile, is released, and one
        that was claimed again after its deadline is cut."""
        attempt = Attempt(task)
        if not still_ours:
            self._end(attempt, outcome_policy.cancelled(task, CancelReason.LEASE_LOST))
            return
        if (seconds := attempt.expires_in()) is not None:
            if seconds <= 0:
                self._end(attempt, outcome_policy.cancelled(task, CancelReason.EXPIRED))
                return
            attempt.expire_in(seconds)
        if self._tells_starts:
            log.debug("task_started", task_id=task.id, type=task.type, queue=task.queue, attempt=task.attempt)
        self._attempts.add(attempt)
        self.taken_by[task.queue] += 1
        attempt.runner = asyncio.create_task(self._run(attempt))
        attempt.runner.add_done_callback(functools.partial(self._on_run, attempt))

    async def watch(self, heartbeat: Heartbeat, stopping: asyncio.Event) -> None:
        """Cancel the attempts of a lease that was lost, also when another has replaced it, until ``stopping``."""
        while not stopping.is_set():
            await heartbeat.next_change(stopping)
            for attempt in self._attempts:
                if attempt.task.worker != heartbeat.name:
                    attempt.cancel(CancelReason.LEASE_LOST)
            self._signal.set()

    async def finish(self, stopping: asyncio.Event) -> None:
        """Wait until nothing runs any more, however long that takes, or until ``stopping``."""
        while self._attempts and not stopping.is_set():
            await first_of(stopping, timeout_seconds=LOOK_SECONDS)

    async def drain(self, seconds: float) -> None:
        """End all attempts within ``seconds``.

        They may finish. Async handlers are cancelled when CLEANUP_PART of the time is left, and may clean up; threads
        and processes, which hear of no cancel, have the whole time. What runs even then is released, and an attempt
        that only waits for its start is released at once. None of this is charged.

        What was to be cancelled on request and runs even then gets no outcome here: ``cancelling`` tells of it.
        """
        self._cancel(attempt for attempt in self._attempts if not attempt.begun)
        await self._wait(seconds * (1 - CLEANUP_PART))
        self._cancel(attempt for attempt in self._attempts if attempt.cleans_up)
        await self._wait(seconds * CLEANUP_PART)
        self._cancel(self._attempts)
        for attempt in self._attempts:
            if attempt.cancel_reason is not CancelReason.REQUESTED:
                self._end(attempt, outcome_policy.cancelled(attempt.task, CancelReason.SHUTDOWN))

    async def _run(self, attempt: Attempt) -> None:
        self._end(attempt, await self._executor.run(attempt))

    def _end(self, attempt: Attempt, outcome: Outcome) -> None:
        """The first outcome of an attempt counts: one that was given up may still return."""
        if attempt.ended:
            return
        attempt.end()
        self._recorder.add(Ended(attempt.task, outcome, attempt.recorded))
        if attempt.begun:
            self._statistics.ended(attempt.task, attempt.clock.elapsed_seconds)

    def _on_run(self, attempt: Attempt, runner: asyncio.Task[None]) -> None:
        if runner.cancelled() and attempt.cancel_reason is not None:
            # Cancelled before its first step: the executor never saw it.
            self._end(attempt, outcome_policy.cancelled(attempt.task, attempt.cancel_reason))
        elif not runner.cancelled() and (error := runner.exception()) is not None:
            log.error("execution_broke", task_id=attempt.task.id, exc_info=error)
        if attempt.thread is not None and not attempt.thread.done():
            attempt.thread.add_done_callback(functools.partial(self._free, attempt))
        else:
            self._free(attempt)

    def _free(self, attempt: Attempt, _thread: asyncio.Future[Any] | None = None) -> None:
        self._attempts.discard(attempt)
        self.taken_by[attempt.task.queue] -= 1
        self._signal.slot_freed()

    def _cancel(self, attempts: Iterable[Attempt]) -> None:
        for attempt in list(attempts):
            attempt.cancel(CancelReason.SHUTDOWN)

    async def _wait(self, seconds: float) -> None:
        if running := [attempt.runner for attempt in self._attempts if attempt.runner and not attempt.runner.done()]:
            await asyncio.wait(running, timeout=seconds)
