"""The relay looks often while rows come that nobody announces, and seldom otherwise."""

import pytest

from aftercommit.runtime.poll_pace import PATIENCE, SHORTEST_SECONDS, PollPace


def test_relay_looks_at_its_interval_while_every_row_is_announced() -> None:
    assert PollPace(longest_seconds=1).seconds_until_next(now=100) == 1


@pytest.mark.parametrize(
    ("since", "wait"), [(0, SHORTEST_SECONDS), (0.1, SHORTEST_SECONDS), (2, 2 / PATIENCE), (1_000, 1)]
)
def test_wait_grows_with_the_time_since_the_last_row_that_nobody_announced(since: float, wait: float) -> None:
    pace = PollPace(longest_seconds=1)
    pace.found(now=100)
    assert pace.seconds_until_next(now=100 + since) == pytest.approx(wait)


def test_interval_is_never_exceeded_when_it_is_short() -> None:
    pace = PollPace(longest_seconds=0.005)
    pace.found(now=100)
    assert pace.seconds_until_next(now=100) == 0.005


def test_row_that_comes_alone_costs_about_a_hundred_looks() -> None:
    pace = PollPace(longest_seconds=1)
    pace.found(now=0)
    now, looks = 0.0, 0
    while (wait := pace.seconds_until_next(now=now)) < 1:
        now, looks = now + wait, looks + 1
    assert looks < 130
