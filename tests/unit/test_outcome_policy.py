import json

import pytest

from aftercommit import Fail, InvalidPayload, Retry
from aftercommit.core.retries import Delay
from aftercommit.core.states import Event
from aftercommit.worker import outcome_policy
from aftercommit.worker.outcome_policy import RetryPolicy
from tests.factories import a_claimed_task

POLICY = RetryPolicy(max_retries=3, delays_seconds=(5, 30))


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
        outcome_policy.failed(task, ValueError("no"), policy=POLICY, max_retries=of_handler).ending for task in tasks
    ]
    assert endings == [Event.RETRY] * allowed + [Event.FAIL]


def test_delay_grows_with_what_was_charged_not_with_the_attempt() -> None:
    outcome = outcome_policy.failed(
        a_claimed_task(attempt=9, charged=2), ValueError("no"), policy=POLICY, max_retries=None
    )
    assert outcome.delay == Delay(30, by_broker=True)
    assert outcome.reason == "ValueError: no"
    assert outcome.attempt == 9


def test_reason_counts_the_attempts_when_they_are_used_up() -> None:
    outcome = outcome_policy.failed(
        a_claimed_task(attempt=9, charged=4), ValueError("no"), policy=POLICY, max_retries=None
    )
    assert (outcome.ending, outcome.delay) == (Event.FAIL, None)
    assert outcome.reason == "failed 4 of 4 attempts: ValueError: no"


def test_handler_s_wish_is_the_delay_when_it_raised_retry_with_after() -> None:
    outcome = outcome_policy.failed(a_claimed_task(), Retry("later", after=7.5), policy=POLICY, max_retries=None)
    assert (outcome.ending, outcome.delay) == (Event.RETRY, Delay(7.5, by_broker=False))


def test_retry_is_refused_when_none_is_left() -> None:
    outcome = outcome_policy.failed(
        a_claimed_task(max_retries=0), Retry("later", after=7.5), policy=POLICY, max_retries=None
    )
    assert outcome.ending is Event.FAIL


@pytest.mark.parametrize("error", [Fail("never"), InvalidPayload("amount: Field required")])
def test_permanent_error_ends_the_task_when_retries_are_left(error: Fail) -> None:
    outcome = outcome_policy.failed(a_claimed_task(), error, policy=POLICY, max_retries=None)
    assert outcome.ending is Event.FAIL
    assert outcome.reason == f"permanent error: {type(error).__name__}: {error}"
    assert json.loads(outcome.error or "")["type"] == type(error).__name__
