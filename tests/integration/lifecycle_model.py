"""What the statements that move one task must do, in plain Python: the reference of ``test_lifecycle``. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from aftercommit.core.outcomes import Ending
from aftercommit.core.states import FINAL, SOURCES, WAITING, Event, Status, target

BY_BROKER = 5
BY_SCHEDULER = 7
"""Seconds of a delay, by who keeps it."""


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task as it is committed. ``sent``: its outbox rows so far, as dispatch and what kind of message."""

    status: Status
    dispatch: int = 1
    attempt: int = 0
    uncharged: int = 0
    worker: str | None = None
    cancelling: bool = False
    deadline_passed: bool = False
    is_due: bool = False
    enqueued: bool = True
    sent: tuple[tuple[int, str], ...] = ()

    @property
    def is_final(self) -> bool:
        return self.status in FINAL


Step = Callable[[TaskState], TaskState | None]
"""The state that a statement leads to; None where it must find nothing to do."""


def submitted(*, later: bool) -> TaskState:
    if later:
        return TaskState(Status.SCHEDULED, dispatch=0, enqueued=False)
    return _send(TaskState(Status.QUEUED, dispatch=0))


def claim(worker: str, dispatch: int) -> Step:
    def step(task: TaskState) -> TaskState | None:
        if task.dispatch != dispatch:
            return None
        if task.status in SOURCES[Event.CLAIM] and not task.deadline_passed:
            return replace(task, status=Status.RUNNING, attempt=task.attempt + 1, worker=worker, is_due=False)
        # The answer of an earlier claim was lost.
        return task if task.status is Status.RUNNING and task.worker == worker else None

    return step


def record(ending: Ending, worker: str, attempt: int, *, delay: int | None, own: bool = False) -> Step:
    """``own``: in the handler's transaction, which must not commit once a cancel was asked for."""

    def step(task: TaskState) -> TaskState | None:
        if task.status is not Status.RUNNING or (task.worker, task.attempt) != (worker, attempt):
            return None
        if task.cancelling:
            return None if own else _end(replace(task, cancelling=False), Status.CANCELLED)
        if target(ending, task.status) in FINAL:
            return _fail(task) if ending is Event.FAIL else _end(task, target(ending, task.status))
        uncharged = task.uncharged + (ending is not Event.RETRY)
        waits = replace(task, status=target(ending, task.status), uncharged=uncharged)
        if delay == BY_SCHEDULER:
            return replace(waits, dispatch=task.dispatch + 1, enqueued=False)
        return _send(waits, "delayed" if delay else "now")

    return step


def cancel(task: TaskState) -> TaskState | None:
    if task.status is Status.RUNNING:
        return replace(task, cancelling=True)
    return _end(task, Status.CANCELLED) if task.status in WAITING else None


def run_now(task: TaskState) -> TaskState | None:
    if task.status not in SOURCES[Event.RUN_NOW]:
        return None
    status = target(Event.RUN_NOW, task.status)
    return _send(replace(task, status=status, is_due=False, enqueued=True))


def reschedule(task: TaskState) -> TaskState | None:
    return replace(task, is_due=False) if task.status is Status.SCHEDULED else None


def resubmit(task: TaskState) -> TaskState | None:
    if not task.is_final:
        return None
    fresh = replace(task, status=Status.QUEUED, uncharged=task.attempt, is_due=False, deadline_passed=False)
    return _send(fresh)


def complete(*, failed: bool) -> Step:
    def step(task: TaskState) -> TaskState | None:
        if task.is_final:
            return None
        ended = replace(task, dispatch=max(task.dispatch, 1), cancelling=False)
        return _fail(ended) if failed else _end(ended, Status.SUCCEEDED)

    return step


def fall_due(task: TaskState) -> TaskState | None:
    if task.status not in SOURCES[Event.FALL_DUE] or task.enqueued or not task.is_due:
        return None
    if task.status is Status.SCHEDULED:
        return _send(replace(task, status=Status.QUEUED, enqueued=True))
    return replace(task, enqueued=True, sent=(*task.sent, (task.dispatch, "now")))


def expire(task: TaskState) -> TaskState | None:
    return _end(task, Status.EXPIRED) if task.status in WAITING and task.deadline_passed else None


def _send(task: TaskState, how: str = "now") -> TaskState:
    """With the next dispatch."""
    dispatch = task.dispatch + 1
    return replace(task, dispatch=dispatch, enqueued=True, sent=(*task.sent, (dispatch, how)))


def _fail(task: TaskState) -> TaskState:
    return replace(_end(task, Status.FAILED), sent=(*task.sent, (task.dispatch, "dead")))


def _end(task: TaskState, status: Status) -> TaskState:
    return replace(task, status=status, enqueued=True, is_due=False)
