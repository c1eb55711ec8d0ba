from hypothesis import given
from hypothesis import strategies as st

from aftercommit.server.relay.backoff import FIRST_SECONDS, LONGEST_SECONDS, Backoffs


def test_nothing_rests_when_nothing_was_refused() -> None:
    backoffs = Backoffs()
    assert backoffs.resting(now=0) == []
    assert backoffs.seconds_until_next(now=0) is None


def test_destination_rests_longer_when_it_refuses_again() -> None:
    backoffs = Backoffs()
    backoffs.refused("tasks.high", now=0)
    assert backoffs.resting(now=0) == ["tasks.high"]
    assert backoffs.seconds_until_next(now=0) == FIRST_SECONDS
    assert backoffs.resting(now=0 + FIRST_SECONDS) == []
    backoffs.refused("tasks.high", now=0)
    assert backoffs.seconds_until_next(now=0) == FIRST_SECONDS * 2


def test_destination_starts_anew_when_it_accepted_in_between() -> None:
    backoffs = Backoffs()
    backoffs.refused("tasks.high", now=0)
    backoffs.refused("tasks.high", now=0)
    backoffs.accepted("tasks.high")
    assert backoffs.resting(now=0) == []
    backoffs.refused("tasks.high", now=0)
    assert backoffs.seconds_until_next(now=0) == FIRST_SECONDS


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40))
def test_waits_stay_within_their_bounds_when_many_refuse(refusals: list[str]) -> None:
    backoffs = Backoffs()
    for destination in refusals:
        backoffs.refused(destination, now=0)
    assert set(backoffs.resting(now=0)) == set(refusals)
    soonest = backoffs.seconds_until_next(now=0)
    assert soonest is not None
    assert FIRST_SECONDS <= soonest <= LONGEST_SECONDS
    assert backoffs.resting(now=LONGEST_SECONDS) == []
