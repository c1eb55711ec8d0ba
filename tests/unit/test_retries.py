from hypothesis import given
from hypothesis import strategies as st

from aftercommit.core.retries import Delay, plan_delay

DELAYS = st.lists(st.integers(1, 86_400), min_size=1, max_size=6).map(tuple)


@given(DELAYS, st.integers(1, 1_000))
def test_delay_is_the_nth_of_the_settings_when_the_handler_asked_for_none(delays: tuple[int, ...], retry: int) -> None:
    planned = plan_delay(retry=retry, delays_seconds=delays)
    assert planned == Delay(delays[retry - 1] if retry <= len(delays) else delays[-1], by_broker=True)


@given(DELAYS, st.integers(1, 1_000), st.floats(0, 31_536_000))
def test_handler_s_wish_wins_when_it_asked_for_a_delay(delays: tuple[int, ...], retry: int, after: float) -> None:
    planned = plan_delay(retry=retry, delays_seconds=delays, after_seconds=after)
    assert planned.seconds == after
    assert planned.by_broker == (after in delays)


def test_retry_queue_keeps_the_time_when_the_wish_is_one_of_the_delays() -> None:
    assert plan_delay(retry=1, delays_seconds=(5, 30), after_seconds=30.0).by_broker
    assert not plan_delay(retry=1, delays_seconds=(5, 30), after_seconds=30.5).by_broker
    assert not plan_delay(retry=1, delays_seconds=(5, 30), after_seconds=0).by_broker
