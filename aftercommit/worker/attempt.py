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
    ``struck``: the timeout came, and the asyncio task was cancelled for it, as ``asyncio.timeout`` does at a multiple
    of the cost.
    """

    __slots__ = (
        "_began",
        "_context",
        "_loop",
        "_runner",
        "_seconds",
        "_stopped",
        "_strikes_at",
        "_timer",
        "started_at",
        "struck",
    )

    def __init__(self, started_at: datetime) -> None:
        self.started_at = started_at
        self.struck = False
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._stopped: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._runner: asyncio.Task[Any] | None = None
        self._strikes_at = 0.0
        self._seconds = 0.0
        self._context: Context | None = None

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

    def arm(self, seconds: float, context: Context | None) -> None:
        """Cancel the current task in ``seconds``. That moment and the context's deadline move when the clock stops."""
        self._context = context
        self._seconds = seconds
        self._runner = asyncio.current_task()
        self._strikes_at = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._strikes_at, self._strike)

    def disarm(self) -> None:
        """Let the attempt go on past its timeout."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def let_go(self, error: BaseException | None = None) -> bool:
        """What ``arm`` bounded has ended, with ``error`` if it raised: whether that is the timeout's."""
        if not self.struck or self._runner is None:
            self.disarm()
            return False
        cancelled_only_here = self._runner.uncancel() == 0
        return isinstance(error, TimeoutError) or (isinstance(error, asyncio.CancelledError) and cancelled_only_here)

    def tell_cancelled(self) -> None:
        """Let the handler know that it is to stop, where it looks."""
        if self._context is not None:
            self._context.cancelled = True

    def _strike(self) -> None:
        self._timer = None
        self.struck = True
        self.tell_cancelled()
        if self._runner is not None:
            self._runner.cancel()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock during the block."""
        if self._timer is not None:
            self._timer.cancel()
        self._stopped = self._loop.time()
        try:
            yield
        finally:
            stood = self._loop.time() - self._stopped
            self._stopped = None
            self._move(stood)
            if self._timer is not None:  # nobody disarmed it meanwhile
                self._strikes_at += stood
                self._timer = self._loop.call_at(self._strikes_at, self._strike)

    def _move(self, seconds: float) -> None:
        self._began += seconds
        self.started_at += timedelta(seconds=seconds)
        if self._context is not None:
            self._context.deadline = deadline(self.started_at, self._seconds, self._context.expires_at)


def deadline(started_at: datetime, timeout_seconds: float, expires_at: datetime | None) -> datetime:
    """When an attempt is cut: at its timeout, or at its task's deadline if that comes first."""
    times_out_at = started_at + timedelta(seconds=timeout_seconds)
    return times_out_at if expires_at is None else min(times_out_at, expires_at)


class Attempt:
    """A claimed task that this worker runs.

    ``begun``: the handler may have begun. ``cleans_up``: the handler hears of a cancel. ``thread`` is what a sync
    handler runs in; it may outlive the attempt. ``ended``: the outcome is decided. ``recorded``: the handler's own
    transaction recorded it.
    """

    __slots__ = (
        "_expiry",
        "begun",
        "cancel_reason",
        "cleans_up",
        "clock",
        "ended",
        "recorded",
        "runner",
        "task",
        "thread",
    )

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
        self._expiry: asyncio.TimerHandle | None = None

    def expires_in(self) -> float | None:
        """Seconds from now to the deadline of a task that was just claimed; None when it has none.

        Counted from the claim, since both moments are Postgres's: this machine's clock may be wrong.
        """
        if self.task.expires_at is None:
            return None
        return (self.task.expires_at - self.task.started_at).total_seconds()

    def expire_in(self, seconds: float) -> None:
        """Cancel the attempt in ``seconds``, unless it has ended. That moment moves for nothing."""
        self._expiry = asyncio.get_running_loop().call_later(seconds, self.cancel, CancelReason.EXPIRED)

    def outrun_expiry(self) -> None:
        """The handler has returned in time: what is left to do, such as a commit, is not cut."""
        if self._expiry is not None:
            self._expiry.cancel()

    def end(self) -> None:
        """The outcome is decided."""
        self.ended = True
        self.outrun_expiry()

    def begin(self) -> None:
        """The handler begins now. The time since the claim, in which other attempts had their turn, does not count."""
        self.begun = True
        self.clock.restart()

    def cancel(self, reason: CancelReason) -> None:
        """Cancel the attempt, once: a second cancel would interrupt the handler as it cleans up.

        A thread that is to stop on request is only asked to: the attempt lasts until it has returned, and no timeout
        ends it before.
        """
        if self.cancel_reason is not None or self.ended or self.runner is None:
            return
        self.cancel_reason = reason
        self.clock.tell_cancelled()
        if reason is CancelReason.REQUESTED and self.thread is not None and not self.thread.done():
            self.clock.disarm()
            return
        if reason is CancelReason.SHUTDOWN:
            # The rest of the shutdown time bounds it from now on.
            self.clock.disarm()
        self.runner.cancel()
