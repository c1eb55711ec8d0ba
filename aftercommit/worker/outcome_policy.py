"""What an ended attempt means for its task: one frozen Outcome, decided in one place. Pure."""

from dataclasses import dataclass

from aftercommit import Fail, Retry
from aftercommit.core import failures
from aftercommit.core.outcomes import CancelReason, Ending, Outcome
from aftercommit.core.retries import plan_delay
from aftercommit.core.states import Event
from aftercommit.db.claims import ClaimedTask


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``max_retries`` holds where neither the task nor its handler says otherwise."""

    max_retries: int
    delays_seconds: tuple[int, ...]


def succeeded(task: ClaimedTask, result: str) -> Outcome:
    """``result`` is JSON text."""
    return Outcome(task_id=task.id, attempt=task.attempt, worker=task.worker, ending=Event.SUCCEED, result=result)


def cancelled(task: ClaimedTask, reason: CancelReason) -> Outcome:
    """The outcome of an attempt that its worker cancelled and that did not return."""
    match reason:
        case CancelReason.SHUTDOWN:
            return released(task, "the worker stopped before the attempt could finish")
        case CancelReason.LEASE_LOST:
            return released(task, "the worker lost its lease")
        case CancelReason.REQUESTED:
            return _ended(task, Event.STOP, failures.dump(failures.CANCELLED, "cancelled on request"))
        case CancelReason.EXPIRED:
            return _ended(task, Event.CUT, failures.dump(failures.EXPIRED, "its deadline passed while it ran"))


def released(task: ClaimedTask, reason: str) -> Outcome:
    """The attempt was cut short through no fault of the task: it is not charged."""
    return _ended(task, Event.RELEASE, failures.dump("Released", reason))


def failed(task: ClaimedTask, error: BaseException, *, policy: RetryPolicy, max_retries: int | None) -> Outcome:
    """A retry while retries are left and the error is not permanent, else the end.

    ``max_retries`` is the handler's own; the task's option wins over it.
    """
    allowed = _first(task.max_retries, max_retries, policy.max_retries)
    text = failures.dump_exception(error)
    summary = failures.summary(error)
    if isinstance(error, Fail):
        return _end(task, text, reason=f"permanent error: {summary}")
    if task.charged > allowed:
        return _end(task, text, reason=f"failed {task.charged} of {allowed + 1} attempts: {summary}")
    after = error.after if isinstance(error, Retry) else None
    delay = plan_delay(retry=task.charged, delays_seconds=policy.delays_seconds, after_seconds=after)
    return Outcome(
        task_id=task.id,
        attempt=task.attempt,
        worker=task.worker,
        ending=Event.RETRY,
        error=text,
        delay=delay,
        reason=summary,
    )


def unstorable(task: ClaimedTask, refusal: str) -> Outcome:
    """The outcome of an attempt whose own outcome Postgres refused for its values."""
    error = failures.dump("Unstorable", f"Postgres refused the outcome: {refusal}")
    return _end(task, error, reason="the outcome could not be stored")


def _ended(task: ClaimedTask, ending: Ending, error: str) -> Outcome:
    return Outcome(task_id=task.id, attempt=task.attempt, worker=task.worker, ending=ending, error=error)


def _end(task: ClaimedTask, error: str, *, reason: str) -> Outcome:
    return Outcome(
        task_id=task.id, attempt=task.attempt, worker=task.worker, ending=Event.FAIL, error=error, reason=reason
    )


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)
