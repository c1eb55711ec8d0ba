from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftercommit import Backoff, Delays
from aftercommit.core.retries import Delay, RetryDelays, given_delay, plan_delay, read_delays
from aftercommit.server.submission.task_input import TaskIn

SECONDS = st.one_of(st.integers(0, 31_536_000), st.floats(0, 31_536_000))
DELAYS = st.lists(SECONDS, min_size=1, max_size=6).map(lambda seconds: Delays(*seconds))
BACKOFFS = st.builds(
    Backoff,
    initial_seconds=st.floats(0.001, 31_536_000),
    factor=st.floats(1, 100),
    cap_seconds=st.floats(0.001, 31_536_000),
    jitter=st.floats(0, 1),
)


@given(DELAYS, st.integers(1, 1_000))
def test_delay_is_the_nth_and_the_last_repeats(delays: Delays, retry: int) -> None:
    planned = plan_delay(retry=retry, delays=delays, queue_delays=())
    assert planned == Delay(delays.seconds[min(retry, len(delays.seconds)) - 1], by_broker=False)


@given(BACKOFFS, st.integers(1, 1_000), st.floats(0, 1))
def test_backoff_is_below_its_cap_and_less_by_its_jitter_at_most(backoff: Backoff, retry: int, drawn: float) -> None:
    seconds = plan_delay(retry=retry, delays=backoff, queue_delays=(), draw=lambda: drawn).seconds
    longest = plan_delay(retry=retry, delays=backoff, queue_delays=(), draw=lambda: 0).seconds
    assert 0 <= seconds <= longest <= round(backoff.cap_seconds, 3)
    assert seconds == pytest.approx(longest * (1 - backoff.jitter * drawn), abs=0.002)


@given(BACKOFFS)
def test_backoff_never_shrinks_without_jitter(backoff: Backoff) -> None:
    planned = [plan_delay(retry=n, delays=backoff, queue_delays=(), draw=lambda: 0).seconds for n in range(1, 50)]
    assert all(earlier <= later for earlier, later in pairwise(planned))


def test_backoff_grows_by_its_factor_up_to_its_cap() -> None:
    backoff = Backoff(initial_seconds=2, factor=3, cap_seconds=50, jitter=0.5)

    def planned(draw: float) -> list[float]:
        return [plan_delay(retry=n, delays=backoff, queue_delays=(), draw=lambda: draw).seconds for n in (1, 2, 3, 4)]

    assert planned(0) == [2, 6, 18, 50]
    assert planned(1) == [1, 3, 9, 25]


@pytest.mark.parametrize(("seconds", "by_broker"), [(30, True), (30.0, True), (30.5, False), (0, False)])
def test_retry_queue_keeps_the_time_when_there_is_one_of_exactly_that_delay(seconds: float, by_broker: bool) -> None:
    queues = (5, 30)
    assert given_delay(seconds, queue_delays=queues).by_broker is by_broker
    assert plan_delay(retry=1, delays=Delays(seconds), queue_delays=queues).by_broker is by_broker


@pytest.mark.parametrize(
    ("submitted", "read"),
    [
        ({"delays_seconds": [0, 5, 2.5]}, Delays(0, 5, 2.5)),
        ({"backoff": {"initial_seconds": 1}}, Backoff(initial_seconds=1)),
        (
            {"backoff": {"initial_seconds": 1, "factor": 3, "cap_seconds": 9, "jitter": 0}},
            Backoff(initial_seconds=1, factor=3, cap_seconds=9, jitter=0),
        ),
    ],
)
def test_what_a_submit_takes_is_read_back(submitted: dict[str, Any], read: RetryDelays) -> None:
    text = TaskIn.model_validate({"type": "echo", "retry": submitted}).retry_text
    assert text is not None
    assert read_delays(text) == read


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[5]",
        "{}",
        "{broken",
        "[" * 100_000,
        '{"delays_seconds": []}',
        '{"delays_seconds": ["5"]}',
        '{"delays_seconds": [-1]}',
        '{"delays_seconds": [true]}',
        '{"delays_seconds": [5], "backoff": {"initial_seconds": 1}}',
        '{"backoff": {}}',
        '{"backoff": {"initial_seconds": 0}}',
        '{"backoff": {"initial_seconds": 1, "shape": "fibonacci"}}',
        '{"fibonacci": {}}',
    ],
)
def test_what_this_release_does_not_know_is_refused_by_one_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_delays(text)


@pytest.mark.parametrize(
    "seconds", [(), (-1,), (31_536_001,), (float("nan"),), (float("inf"),), ("5",), (True,), (1,) * 51]
)
def test_delays_refuse_nonsense(seconds: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"give"):
        Delays(*seconds)


@pytest.mark.parametrize(
    "changes",
    [
        {"initial_seconds": 0},
        {"initial_seconds": -1},
        {"initial_seconds": "1"},
        {"factor": 0.9},
        {"factor": float("inf")},
        {"cap_seconds": 0},
        {"cap_seconds": float("nan")},
        {"jitter": 1.1},
        {"jitter": -0.1},
    ],
)
def test_backoff_refuses_nonsense(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        Backoff(**{"initial_seconds": 1} | changes)
