import asyncio

import pytest

from aftercommit.worker import postponed
from aftercommit.worker.postponed import LONGEST_WAIT_SECONDS, Postponed, wait_seconds


def test_waits_double_up_to_a_bound() -> None:
    waits = [wait_seconds(tries) for tries in range(1, 2_000)]
    assert waits[:3] == [0.05, 0.1, 0.2]
    assert waits[-1] == LONGEST_WAIT_SECONDS


async def test_items_are_handed_out_when_their_wait_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(postponed, "_now", lambda: now)
    waiting: Postponed[str] = Postponed()
    assert waiting.seconds_until_next(60) == 60
    waiting.add("late", tries=3)
    waiting.add("soon", tries=1)
    waiting.add("soon, too", tries=1)
    assert waiting.take_due(10) == []
    assert waiting.seconds_until_next(60) == pytest.approx(0.05)
    now = 100.06
    assert waiting.take_due(1) == ["soon"]
    assert waiting.seconds_until_next(60) == 0
    assert waiting.take_due(10) == ["soon, too"]
    now = 101.0
    assert (waiting.take_due(10), len(waiting)) == (["late"], 0)


async def test_clock_is_that_of_the_loop() -> None:
    waiting: Postponed[int] = Postponed()
    waiting.add(1, tries=1)
    await asyncio.sleep(0.1)
    assert waiting.take_due(1) == [1]
