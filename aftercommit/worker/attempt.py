"""One attempt under way: its task, its clock, and why it was cancelled."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from aftercommit import Context
from aftercommit.core.outcomes import CancelReason
from aftercommit.db.claims import ClaimedTask


class AttemptClock:
    """Counts an attempt's time against its timeout. It stands while the attempt waits for a place.

    ``started_at`` moves by the time that the clock stood, so that ``started_at`` plus the timeout is the deadline.
    """

    __slots__ = ("_began", "_context", "_disarmed", "_loop", "_stopped", "_timer", "started_at")

    def __init__(self, started_at: datetime) -> None:
        self.started_at = started_at
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._stopped: float | None = None
        self._timer: asyncio.Timeout | None = None
        self._context: Context | None = None
        self._disarmed = False

    @property
    def stands(self) -> bool:
        return self._stopped is not None

    @property
    def elapsed_seconds(self) -> float:
        """The time that counts."""
        return (self._loop.time() if self._stopped is None else self._stopped) - self._began

    def restart(self) -> None:
        """Count from now on."""
        self._began = self._loop.time()

    def govern(self, timer: asyncio.Timeout, context: Context | None) -> None:
        """Move the timer, which must be running, and the context's deadline when the clock stops and goes on."""
        self._timer, self._context = timer, context

    def let_go(self) -> None:
        """The timer ends."""
        self._timer = None

    def disarm(self) -> None:
        """Let the attempt go on past its timeout."""
        self._disarmed = True
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(None)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock during the block."""
        timer = self._timer if self._timer is not None and not self._timer.expired() else None
        strikes_at = timer.when() if timer is not None else None
        if timer is not None:
            timer.reschedule(None)
        self._stopped = self._loop.time()
        try:
            yield
        finally:
            stood = self._loop.time() - self._stopped
            self._stopped = None
            self._move(stood)
            if timer is not None and timer is self._timer and strikes_at is not None and not self._disarmed:
                timer.reschedule(strikes_at + stood)

    def _move(self, seconds: float) -> None:
        self._began += seconds
        self.started_at += timedelta(seconds=seconds)
        if self._context is not None:
            self._context.deadline += timedelta(seconds=seconds)


class Attempt:
    """A claimed task that this worker runs.

    ``begun``: the handler may have begun. ``cleans_up``: the handler hears of a cancel. ``thread`` is what a sync
    handler runs in; it may outlive the attempt. ``ended``: the outcome is decided. ``recorded``: the handler's own
    transaction recorded it.
    """

    __slots__ = ("begun", "cancel_reason", "cleans_up", "clock", "ended", "recorded", "runner", "task", "thread")

    def __init__(self, task: ClaimedTask) -> None:
        self.task = task
        self.clock = AttemptClock(task.started_at)
        self.cancel_reason: CancelReason | None = None
        self.runner: asyncio.Task[Any] | None = None
        self.thread: asyncio.Future[Any] | None = None
        self.begun = False
        self.cleans_up = False
        self.ended = False
        self.recorded = False

    def begin(self) -> None:
        """The handler begins now. The time since the claim, in which other attempts had their turn, does not count."""
        self.begun = True
        self.clock.restart()

    def cancel(self, reason: CancelReason) -> None:
        """Cancel the attempt, once: a second cancel would interrupt the handler as it cleans up."""
        if self.cancel_reason is not None or self.ended or self.runner is None:
            return
        self.cancel_reason = reason
        if reason is CancelReason.SHUTDOWN:
            # The rest of the shutdown time bounds it from now on.
            self.clock.disarm()
        self.runner.cancel()
