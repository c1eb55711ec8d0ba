"""Which calls are tried again, when, and for how long."""

from typing import Any

import httpx
import pytest
from tenacity import Future as Outcome
from tenacity import RetryCallState, Retrying

from aftercommit import TaskRequest
from aftercommit.client import schedule_calls, service_calls, task_calls
from aftercommit.client.call import Call
from aftercommit.client.errors import (
    ApiError,
    BodyTimeout,
    DatabaseTimeout,
    Overloaded,
    ServiceUnavailable,
    WrongState,
)
from aftercommit.client.tries import LONGEST_WAIT_SECONDS, Tries, may_repeat, pause_seconds

TASK_ID = "0199a3c5-7e4b-7c11-9a55-0d9f4c5be7aa"
GET = task_calls.get_task(TASK_ID)
SUBMIT = task_calls.submit("echo", idempotency_key="order-17")
TRIGGER = schedule_calls.trigger_schedule("daily")


def failed(error: BaseException, *, nth: int) -> RetryCallState:
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = nth
    outcome = Outcome(nth)
    outcome.set_exception(error)
    state.outcome = outcome
    return state


def test_calls_that_may_be_repeated_are_those_that_do_no_harm() -> None:
    repeatable: dict[str, Call[Any]] = {
        "submit": SUBMIT,
        "submit_batch": task_calls.submit_batch([]),
        "get_task": GET,
        "cancel_task": task_calls.cancel_task(TASK_ID),
        "reschedule_task": task_calls.reschedule_task(TASK_ID, delay_seconds=1),
        "replace_schedule": schedule_calls.replace_schedule("daily", TaskRequest("echo")),
        "pause_schedule": schedule_calls.pause_schedule("daily"),
        "requeue": service_calls.requeue(),
    }
    once: dict[str, Call[Any]] = {
        "run_task_now": task_calls.run_task_now(TASK_ID),
        "retry_task": task_calls.retry_task(TASK_ID),
        "complete_task": task_calls.complete_task(TASK_ID),
        "fail_task": task_calls.fail_task(TASK_ID, type="a", message="b"),
        "create_schedule": schedule_calls.create_schedule("daily", TaskRequest("echo")),
        "trigger_schedule": TRIGGER,
        "delete_schedule": schedule_calls.delete_schedule("daily"),
    }
    assert {name for name, call in (repeatable | once).items() if call.repeatable} == set(repeatable)


@pytest.mark.parametrize(
    ("error", "again", "once_again"),
    [
        (httpx.ConnectError("refused"), True, True),
        (httpx.ConnectTimeout("silent"), True, True),
        (httpx.PoolTimeout("busy"), True, True),
        (httpx.ReadTimeout("slow"), True, False),
        (httpx.WriteError("cut"), True, False),
        (httpx.RemoteProtocolError("cut"), True, False),
        (httpx.UnsupportedProtocol("ftp"), False, False),
        (ApiError("", status=429), True, True),
        (Overloaded("", status=503), True, True),
        (BodyTimeout("", status=408), True, True),
        (DatabaseTimeout("", status=503), True, False),
        (ApiError("", status=502), True, False),
        (ApiError("", status=504), True, False),
        (ApiError("", status=500), False, False),
        (WrongState("", status=409), False, False),
        (KeyboardInterrupt(), False, False),
    ],
)
def test_try_is_repeated_when_that_may_help_and_does_no_harm(
    error: BaseException, again: bool, once_again: bool
) -> None:
    assert may_repeat(SUBMIT, error) is again
    assert may_repeat(TRIGGER, error) is once_again


def test_pause_is_random_up_to_an_interval_that_doubles() -> None:
    error = httpx.ConnectError("refused")
    for nth, most in ((1, 0.25), (2, 0.5), (3, 1.0), (10, LONGEST_WAIT_SECONDS)):
        pauses = [pause_seconds(failed(error, nth=nth)) for _ in range(200)]
        assert 0 <= min(pauses) < most / 4
        assert most * 3 / 4 < max(pauses) <= most


def test_pause_begins_after_what_the_answer_asks_for() -> None:
    busy = Overloaded("", status=503, retry_after_seconds=2)
    pauses = [pause_seconds(failed(busy, nth=1)) for _ in range(50)]
    assert 2 <= min(pauses) < max(pauses) <= 2.25


def tried(call: Call[Any], error: Exception, *, timeout: float) -> tuple[int, ApiError]:
    """How often a call that always fails is tried, and what is raised then."""
    tries = Tries(call, timeout=timeout, try_timeout=1)
    count = 0

    def fail() -> None:
        nonlocal count
        count += 1
        raise error

    with pytest.raises(ApiError) as caught, tries.told():
        Retrying(**tries.options, sleep=lambda _: None)(fail)
    return count, caught.value


def test_service_is_unavailable_when_the_deadline_has_passed() -> None:
    refused = httpx.ConnectError("refused")
    count, error = tried(SUBMIT, refused, timeout=0.1)
    assert count >= 1
    assert isinstance(error, ServiceUnavailable)
    assert (error.code, error.status, error.idempotency_key) == ("service-unavailable", None, "order-17")
    assert error.__cause__ is refused
    assert "POST /v1/tasks did not succeed within 0.1 s" in error.detail
    assert "ConnectError: refused" in error.detail


def test_pause_that_the_deadline_does_not_leave_time_for_is_not_waited() -> None:
    busy = Overloaded("too much", status=503, retry_after_seconds=60)
    count, error = tried(SUBMIT, busy, timeout=30)
    assert count == 1
    assert (type(error), error.status, error.__cause__) == (ServiceUnavailable, 503, busy)


def test_call_that_the_service_may_have_carried_out_is_not_repeated() -> None:
    lost = httpx.ReadError("cut")
    count, error = tried(TRIGGER, lost, timeout=30)
    assert count == 1
    assert isinstance(error, ServiceUnavailable)
    assert "was not repeated, since the service may have done it" in error.detail
    assert error.__cause__ is lost


def test_refusal_is_raised_as_it_is() -> None:
    wrong = WrongState("so not", status=409)
    assert tried(SUBMIT, wrong, timeout=30) == (1, wrong)


def test_try_takes_no_longer_than_the_call_may() -> None:
    long = Tries(GET, timeout=30, try_timeout=10).next_timeout()
    assert (long.connect, long.read) == (10, 10)
    short = Tries(GET, timeout=2, try_timeout=10).next_timeout()
    assert short.read is not None
    assert 1.9 < short.read <= 2


def test_try_waits_for_an_answer_that_the_service_holds_back() -> None:
    held = Tries(task_calls.get_task(TASK_ID, wait_seconds=25), timeout=30, try_timeout=10).next_timeout()
    assert (held.connect, held.read) == (10, 35)
