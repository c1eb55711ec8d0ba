from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftercommit.worker.queue_picker import QueuePicker

SHARES = {"high": 6, "medium": 3, "low": 1}


def served(picker: QueuePicker[str], candidates: set[str], count: int) -> Counter[str]:
    return Counter(picker.next(candidates) for _ in range(count))


def test_queues_share_by_weight_when_all_have_work() -> None:
    picker = QueuePicker(SHARES)
    for _ in range(5):
        assert served(picker, set(SHARES), 10) == SHARES


def test_low_queue_is_not_held_back_to_the_end_of_a_round_when_all_have_work() -> None:
    picker = QueuePicker(SHARES)
    order = [picker.next(set(SHARES)) for _ in range(100)]
    longest = max(len(run) for run in "".join(queue[0] for queue in order).replace("m", " ").replace("l", " ").split())
    assert longest <= 3


def test_nothing_is_wasted_when_a_queue_is_empty() -> None:
    picker = QueuePicker(SHARES)
    assert served(picker, {"medium", "low"}, 40) == {"medium": 30, "low": 10}
    assert served(picker, {"low"}, 7) == {"low": 7}


def test_nothing_is_saved_up_when_a_queue_was_empty_for_long() -> None:
    picker = QueuePicker(SHARES)
    served(picker, {"low"}, 1_000)
    assert served(picker, set(SHARES), 10) == SHARES


def test_earlier_queue_always_goes_first_when_there_are_no_weights() -> None:
    picker = QueuePicker({"high": None, "medium": None, "low": None})
    assert not picker.weighted
    assert served(picker, {"low", "high", "medium"}, 5) == {"high": 5}
    assert served(picker, {"low", "medium"}, 5) == {"medium": 5}


@pytest.mark.parametrize("weights", [SHARES, {"high": None}])
def test_next_raises_when_no_queue_has_work(weights: dict[str, int | None]) -> None:
    with pytest.raises(ValueError, match="no queue has work"):
        QueuePicker(weights).next(set())


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 50), min_size=1),
    st.lists(st.sets(st.sampled_from("abcdef"), min_size=1), max_size=30),
)
def test_every_candidate_gets_its_share_when_queues_come_and_go(weights: dict[str, int], past: list[set[str]]) -> None:
    picker = QueuePicker(weights)
    for candidates in past:
        if candidates & set(weights):
            assert picker.next(candidates & set(weights)) in candidates
    rounds = 20
    counts = served(picker, set(weights), rounds * sum(weights.values()))
    for queue, weight in weights.items():
        # What the past left over is worth no more than a round.
        assert abs(counts[queue] - rounds * weight) <= sum(weights.values())
