import json
from typing import Any

import pytest

from aftercommit import Backoff, Delays, Fail, Handler, InvalidPayload, Retry, Snooze, task
from aftercommit.core.retries import Delay, RetryDelays
from aftercommit.core.states import Event
from aftercommit.worker import outcome_policy
from aftercommit.worker.executor import TimedOut
from aftercommit.worker.outcome_policy import RetryPolicy
from tests.factories import a_claimed_task

POLICY = RetryPolicy(max_retries=3, delays_seconds=(5, 30))


def a_handler(**options: Any) -> Handler:
    @task("test", **options)
    def function() -> None: ...

    return function


def test_success_carries_its_result() -> None:
    outcome = outcome_policy.succeeded(a_claimed_task(attempt=4), "17")
    assert (outcome.ending, outcome.attempt, outcome.result, outcome.error) == (Event.SUCCEED, 4, "17", None)


def test_release_says_why() -> None:
    outcome = outcome_policy.released(a_claimed_task(), "the worker stopped")
    assert outcome.ending is Event.RELEASE
    assert json.loads(outcome.error or "")["message"] == "the worker stopped"


@pytest.mark.parametrize(
    ("of_task", "of_handler", "allowed"),
    [(None, None, 3), (None, 1, 1), (5, 1, 5), (0, 1, 0), (None, 0, 0), (5, None, 5)],
)
def test_task_s_option_wins_over_the_handler_s_and_that_over_the_setting(
    of_task: int | None, of_handler: int | None, allowed: int
) -> None:
    tasks = [a_claimed_task(charged=charged, max_retries=of_task) for charged in range(1, allowed + 2)]
    endings = [
        outcome_policy.failed(task, ValueError("no"), policy=POLICY, handler=a_handler(max_retries=of_handler)).ending
        for task in tasks
    ]
    assert endings == [Event.RETRY] * allowed + [Event.FAIL]


def test_delay_grows_with_what_was_charged_not_with_the_attempt() -> None:
    outcome = outcome_policy.failed(a_claimed_task(attempt=9, charged=2), ValueError("no"), policy=POLICY, handler=None)
    assert outcome.delay == Delay(30, by_broker=True)
    assert outcome.reason == "ValueError: no"
    assert outcome.attempt == 9


def test_reason_counts_the_attempts_when_they_are_used_up() -> None:
    outcome = outcome_policy.failed(a_claimed_task(attempt=9, charged=4), ValueError("no"), policy=POLICY, handler=None)
    assert (outcome.ending, outcome.delay) == (Event.FAIL, None)
    assert outcome.reason == "failed 4 of 4 attempts: ValueError: no"


def test_handler_s_wish_is_the_delay_when_it_raised_retry_with_after() -> None:
    outcome = outcome_policy.failed(a_claimed_task(), Retry("later", after=7.5), policy=POLICY, handler=None)
    assert (outcome.ending, outcome.delay) == (Event.RETRY, Delay(7.5, by_broker=False))


def test_retry_is_refused_when_none_is_left() -> None:
    outcome = outcome_policy.failed(
        a_claimed_task(max_retries=0), Retry("later", after=7.5), policy=POLICY, handler=None
    )
    assert outcome.ending is Event.FAIL


@pytest.mark.parametrize("error", [Fail("never"), InvalidPayload("amount: Field required")])
def test_permanent_error_ends_the_task_when_retries_are_left(error: Fail) -> None:
    outcome = outcome_policy.failed(a_claimed_task(), error, policy=POLICY, handler=None)
    assert outcome.ending is Event.FAIL
    assert outcome.reason == f"permanent error: {type(error).__name__}: {error}"
    assert json.loads(outcome.error or "")["type"] == type(error).__name__


@pytest.mark.parametrize(
    ("of_task", "of_handler", "delay"),
    [
        (None, None, Delay(30, True)),
        (None, Delays(7, 8), Delay(8, False)),
        (Delays(1, 5), Delays(7, 8), Delay(5, True)),
        (Backoff(initial_seconds=10, factor=3, jitter=0), Delays(7, 8), Delay(30, True)),
        (None, Backoff(initial_seconds=10, factor=2, jitter=0), Delay(20, False)),
    ],
)
def test_task_s_delays_win_over_the_handler_s_and_those_over_the_settings(
    of_task: RetryDelays | None, of_handler: RetryDelays | None, delay: Delay
) -> None:
    outcome = outcome_policy.failed(
        a_claimed_task(charged=2),
        ValueError("no"),
        policy=POLICY,
        handler=a_handler(retry=of_handler),
        own_delays=of_task,
    )
    assert (outcome.ending, outcome.delay) == (Event.RETRY, delay)


def test_what_the_handler_asked_for_wins_over_all_delays() -> None:
    outcome = outcome_policy.failed(
        a_claimed_task(),
        Retry("later", after=2),
        policy=POLICY,
        handler=a_handler(retry=Delays(7)),
        own_delays=Delays(9),
    )
    assert outcome.delay == Delay(2, by_broker=False)


@pytest.mark.parametrize(
    ("options", "error", "ending"),
    [
        ({"retry_on": (OSError,)}, ConnectionResetError(), Event.RETRY),
        ({"retry_on": (OSError,)}, ValueError(), Event.FAIL),
        ({"retry_on": (OSError,)}, Retry("later"), Event.RETRY),
        ({"retry_on": ()}, OSError(), Event.FAIL),
        ({"retry_on": (OSError,), "fail_on": (FileNotFoundError,)}, FileNotFoundError(), Event.FAIL),
        ({"fail_on": (LookupError,)}, KeyError("a"), Event.FAIL),
        ({"fail_on": (LookupError,)}, ValueError(), Event.RETRY),
        ({"fail_on": (Exception,)}, Retry("later"), Event.FAIL),
        ({"retry_on": (Exception,)}, Fail("never"), Event.FAIL),
        ({"retry_on": (ValueError,)}, TimedOut(), Event.FAIL),
        ({"retry_on": (TimeoutError,)}, TimedOut(), Event.RETRY),
        ({"fail_on": (TimeoutError,)}, TimedOut(), Event.FAIL),
    ],
)
def test_handler_says_which_exceptions_are_retried(
    options: dict[str, Any], error: BaseException, ending: Event
) -> None:
    outcome = outcome_policy.failed(a_claimed_task(), error, policy=POLICY, handler=a_handler(**options))
    assert outcome.ending is ending


def test_what_the_handler_did_not_raise_is_retried_whatever_it_says() -> None:
    outcome = outcome_policy.failed(
        a_claimed_task(), OSError(), policy=POLICY, handler=a_handler(retry_on=(), fail_on=(OSError,)), raised=False
    )
    assert outcome.ending is Event.RETRY


@pytest.mark.parametrize(("seconds", "delay"), [(7.5, Delay(7.5, False)), (30, Delay(30, True))])
def test_snooze_waits_as_asked_when_no_retry_is_left(seconds: float, delay: Delay) -> None:
    task = a_claimed_task(attempt=9, charged=9, max_retries=0)
    outcome = outcome_policy.snoozed(task, Snooze(seconds, "the shop is closed"), policy=POLICY)
    assert (outcome.ending, outcome.attempt, outcome.delay) == (Event.SNOOZE, 9, delay)
    assert outcome.reason == "Snooze: the shop is closed"
    assert json.loads(outcome.error or "") == {"type": "Snooze", "message": "the shop is closed", "traceback": None}


def test_unknown_type_is_released_uncharged_and_says_so() -> None:
    outcome = outcome_policy.unknown(a_claimed_task(), "no handler for 'a': worker has tests")
    assert outcome.ending is Event.RELEASE
    assert outcome.error is not None
    assert json.loads(outcome.error)["type"] == "UnknownType"
