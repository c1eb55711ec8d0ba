"""What an ended attempt means for its task: one frozen Outcome, decided in one place. Pure."""

from dataclasses import dataclass

from aftercommit import Delays, Fail, Handler, Retry, Snooze
from aftercommit.core import failures
from aftercommit.core.outcomes import CancelReason, Ending, Outcome
from aftercommit.core.retries import Delay, RetryDelays, given_delay, plan_delay
from aftercommit.core.states import Event
from aftercommit.db.claims import ClaimedTask


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What the settings say. It holds where neither the task nor its handler says otherwise; each of ``delays_seconds``
    has a retry queue."""

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


def unknown(task: ClaimedTask, reason: str) -> Outcome:
    """This worker does not know the task's type: the attempt is not charged, and another worker may have the task. This
    one parks it if it comes again."""
    return _ended(task, Event.RELEASE, failures.dump(failures.UNKNOWN_TYPE, reason))


def snoozed(task: ClaimedTask, snooze: Snooze, *, policy: RetryPolicy) -> Outcome:
    """The attempt is not charged, and the task runs again after the wait."""
    return Outcome(
        task_id=task.id,
        attempt=task.attempt,
        worker=task.worker,
        ending=Event.SNOOZE,
        error=failures.dump_briefly(snooze),
        delay=given_delay(snooze.seconds, queue_delays=policy.delays_seconds),
        reason=failures.summary(snooze),
    )


def failed(
    task: ClaimedTask,
    error: BaseException,
    *,
    policy: RetryPolicy,
    handler: Handler | None,
    own_delays: RetryDelays | None = None,
    raised: bool = True,
) -> Outcome:
    """A retry while retries are left and the error is not permanent, else the end.

    ``own_delays`` are what the task's ``retry`` says. The task's options win over the handler's. ``raised``: the
    handler raised ``error``, or took too long, so that its ``retry_on`` and ``fail_on`` are asked.
    """
    allowed = _first(task.max_retries, handler.max_retries if handler else None, policy.max_retries)
    text = failures.dump_exception(error)
    summary = failures.summary(error)
    if isinstance(error, Fail) or (raised and handler is not None and handler.gives_up_on(error)):
        return _end(task, text, reason=f"permanent error: {summary}")
    if task.charged > allowed:
        return _end(task, text, reason=f"failed {task.charged} of {allowed + 1} attempts: {summary}")
    return Outcome(
        task_id=task.id,
        attempt=task.attempt,
        worker=task.worker,
        ending=Event.RETRY,
        error=text,
        delay=_delay(task, error, policy=policy, delays=own_delays or (handler.retry if handler else None)),
        reason=summary,
    )


def _delay(task: ClaimedTask, error: BaseException, *, policy: RetryPolicy, delays: RetryDelays | None) -> Delay:
    queue_delays = policy.delays_seconds
    if isinstance(error, Retry) and error.after is not None:
        return given_delay(error.after, queue_delays=queue_delays)
    return plan_delay(retry=task.charged, delays=delays or Delays(*queue_delays), queue_delays=queue_delays)


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
