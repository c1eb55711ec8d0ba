"""The demo's account notices each way in which a load can fail to add up."""

from dataclasses import replace

import pytest

from aftercommit.devstack.demo.account import account
from aftercommit.devstack.demo.client import Json
from aftercommit.devstack.demo.load import Delivery, deliveries
from aftercommit.devstack.demo.observe import Observation
from aftercommit.devstack.demo.receiver import Receiver
from aftercommit.devstack.demo.report import percentile

SUBMITTED = {
    "one": Delivery(key="k1", priority="high", always_fails=False),
    "two": Delivery(key="k2", priority="low", always_fails=True),
}


def task(status: str, attempt: int) -> Json:
    return {"status": status, "attempt": attempt}


def observation() -> Observation:
    return Observation(
        tasks={"one": task("succeeded", 2), "two": task("failed", 4)},
        unpublished=0,
        depths={"tasks.high": 0, "tasks.dlq": 8},
        elapsed_seconds=1.0,
    )


def receiver() -> Receiver:
    made = Receiver()
    made.answers.update({"k1": [503, 200], "k2": [500] * 4})
    return made


def wrong_lines(seen: Observation, answered: Receiver, *, planned: int = 2) -> list[str]:
    lines = account(planned=planned, submitted=SUBMITTED, seen=seen, receiver=answered, dead_letters_before=7)
    return [line.text for line in lines if not line.adds_up]


def test_account_adds_up_when_all_is_well() -> None:
    assert wrong_lines(observation(), receiver()) == []


def test_account_names_a_task_when_it_is_not_final() -> None:
    seen = replace(observation(), tasks={"one": task("running", 2), "two": task("failed", 4)})
    assert "submitted tasks that reached a final state" in wrong_lines(seen, receiver())


def test_account_names_a_task_when_the_api_does_not_know_it() -> None:
    seen = replace(observation(), tasks={"two": task("failed", 4)})
    assert "submitted tasks that reached a final state" in wrong_lines(seen, receiver())


def test_account_names_a_task_when_nobody_submitted_it() -> None:
    seen = observation()
    seen.tasks["three"] = task("succeeded", 1)
    assert wrong_lines(seen, receiver()) == ["tasks that exist without having been submitted"]


def test_account_names_a_success_when_the_receiver_never_said_so() -> None:
    answered = receiver()
    answered.answers["k1"] = [503, 503]
    assert wrong_lines(observation(), answered) == ["succeeded tasks that the receiver answered with 2xx"]


def test_account_names_a_request_when_its_task_was_never_submitted() -> None:
    answered = receiver()
    answered.answers["k3"] = [200]
    assert "requests for tasks that were never submitted" in wrong_lines(observation(), answered)


def test_account_names_hopeless_tasks_when_they_gave_up_early() -> None:
    seen = observation()
    seen.tasks["two"] = task("failed", 3)
    assert "hopeless tasks failed after 4 attempts" in wrong_lines(seen, receiver())


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"unpublished": 1}, "outbox rows left unpublished"),
        ({"depths": {"tasks.retry.high.1": 1, "tasks.dlq": 8}}, "messages left in work and retry queues"),
        ({"depths": {"tasks.dlq": 7}}, "dead letters added"),
    ],
)
def test_account_names_what_is_left_over(change: Json, line: str) -> None:
    assert wrong_lines(replace(observation(), **change), receiver()) == [line]


def test_deliveries_have_keys_of_their_own() -> None:
    planned = deliveries("demo-1")
    assert len({delivery.key for delivery in planned}) == len(planned)
    assert any(delivery.always_fails for delivery in planned)


def test_percentile_is_the_nearest_rank() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.50, 0.95)] == [50, 95]
    assert percentile([3.0], 0.95) == 3
    assert percentile([], 0.5) is None
