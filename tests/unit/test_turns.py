from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftercommit.worker.queue_picker import QueuePicker

SHARES = {"high": 6, "medium": 3, "low": 1}


def served(turns: QueuePicker[str], candidates: set[str], count: int) -> Counter[str]:
    return Counter(turns.next(candidates) for _ in range(count))


def test_lanes_share_by_weight_when_all_have_work() -> None:
    turns = QueuePicker(SHARES)
    for _ in range(5):
        assert served(turns, set(SHARES), 10) == SHARES


def test_low_lane_is_not_held_back_to_the_end_of_a_round_when_all_have_work() -> None:
    turns = QueuePicker(SHARES)
    order = [turns.next(set(SHARES)) for _ in range(100)]
    longest = max(len(run) for run in "".join(lane[0] for lane in order).replace("m", " ").replace("l", " ").split())
    assert longest <= 3


def test_nothing_is_wasted_when_a_lane_is_empty() -> None:
    turns = QueuePicker(SHARES)
    assert served(turns, {"medium", "low"}, 40) == {"medium": 30, "low": 10}
    assert served(turns, {"low"}, 7) == {"low": 7}


def test_nothing_is_saved_up_when_a_lane_was_empty_for_long() -> None:
    turns = QueuePicker(SHARES)
    served(turns, {"low"}, 1_000)
    assert served(turns, set(SHARES), 10) == SHARES


def test_earlier_lane_always_goes_first_when_there_are_no_weights() -> None:
    turns = QueuePicker({"high": None, "medium": None, "low": None})
    assert not turns.weighted
    assert served(turns, {"low", "high", "medium"}, 5) == {"high": 5}
    assert served(turns, {"low", "medium"}, 5) == {"medium": 5}


@pytest.mark.parametrize("weights", [SHARES, {"high": None}])
def test_next_raises_when_no_lane_has_work(weights: dict[str, int | None]) -> None:
    with pytest.raises(ValueError, match="no lane has work"):
        QueuePicker(weights).next(set())


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 50), min_size=1),
    st.lists(st.sets(st.sampled_from("abcdef"), min_size=1), max_size=30),
)
def test_every_candidate_gets_its_share_when_lanes_come_and_go(weights: dict[str, int], past: list[set[str]]) -> None:
    turns = QueuePicker(weights)
    for candidates in past:
        if candidates & set(weights):
            assert turns.next(candidates & set(weights)) in candidates
    rounds = 20
    counts = served(turns, set(weights), rounds * sum(weights.values()))
    for lane, weight in weights.items():
        # What the past left over is worth no more than a round.
        assert abs(counts[lane] - rounds * weight) <= sum(weights.values())
