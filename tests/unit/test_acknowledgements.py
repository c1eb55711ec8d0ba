"""Answers to the broker cover each tag exactly once, in as few frames as that takes."""

from hypothesis import given
from hypothesis import strategies as st

from aftercommit.broker.acknowledgements import Acknowledgements


def test_deliveries_that_are_done_in_order_take_one_answer() -> None:
    found = Acknowledgements()
    for tag in (2, 1, 3):
        found.done(tag)
    assert len(found) == 3
    assert found.take() == [(3, True)]
    assert len(found) == 0
    assert found.take() == []


def test_delivery_that_is_still_open_is_not_answered_for_by_a_later_one() -> None:
    found = Acknowledgements()
    for tag in (1, 3, 4):
        found.done(tag)
    assert found.take() == [(1, True), (3, False), (4, False)]
    found.done(2)
    found.done(5)
    assert found.take() == [(5, True)]


def test_what_was_handed_back_is_passed_over() -> None:
    found = Acknowledgements()
    found.answered(1)
    found.done(2)
    found.answered(3)
    assert found.take() == [(2, True)]
    found.done(4)
    assert found.take() == [(4, True)]


@given(st.data())
def test_broker_knows_of_exactly_what_is_done_with(data: st.DataObject) -> None:
    found = Acknowledgements()
    tags = data.draw(st.permutations(range(1, 21)))
    handed_back = data.draw(st.sets(st.sampled_from(tags)))
    outstanding = set(range(1, 21))
    acknowledged: set[int] = set()
    done: set[int] = set()
    for tag in tags:
        if tag in handed_back:
            found.answered(tag)
            outstanding.remove(tag)
        else:
            found.done(tag)
            done.add(tag)
        if data.draw(st.booleans()):
            for told, multiple in found.take():
                assert told in outstanding  # the broker closes the channel for a tag that it does not know
                covered = {each for each in outstanding if each <= told} if multiple else {told}
                outstanding -= covered
                acknowledged |= covered
            assert acknowledged == done
