"""Which loop is woken, and when none is."""

import asyncio

from aftercommit.worker.claim_signal import ClaimSignal


def two_resting() -> tuple[ClaimSignal, list[asyncio.Event]]:
    signal, loops = ClaimSignal(), [asyncio.Event(), asyncio.Event()]
    for loop in loops:
        signal.rest(loop)
    return signal, loops


def woken(loops: list[asyncio.Event]) -> int:
    return sum(loop.is_set() for loop in loops)


def test_one_loop_is_woken_for_each_reason() -> None:
    signal, loops = two_resting()
    signal.set()
    assert woken(loops) == 1
    signal.set()
    assert woken(loops) == 2
    signal.set()


def test_free_slot_wakes_a_loop_only_while_messages_wait_for_one() -> None:
    signal, loops = two_resting()
    signal.wants_slots = False
    signal.slot_freed()
    assert woken(loops) == 0
    signal.wants_slots = True
    signal.slot_freed()
    assert woken(loops) == 1


def test_loop_that_works_is_not_woken() -> None:
    signal, loops = two_resting()
    signal.work(loops[0])
    signal.set()
    assert [loop.is_set() for loop in loops] == [False, True]
