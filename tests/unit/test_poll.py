"""The loop that all periodic work runs in."""

import asyncio
import itertools
from functools import partial

import pytest

from aftercommit.runtime import poll as loop
from aftercommit.runtime.poll import poll

NEVER = 3_600.0


async def test_wait_is_cut_short_by_a_call_and_by_the_end() -> None:
    stopping, wake, ticks = asyncio.Event(), asyncio.Event(), itertools.count(1)
    ticked = asyncio.Event()

    async def tick() -> float:
        next(ticks)
        ticked.set()
        return NEVER

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(poll("test", tick, stopping=stopping, wake=wake))
        for _ in range(3):
            await ticked.wait()
            ticked.clear()
            wake.set()
        await ticked.wait()
        stopping.set()
    assert next(ticks) == 5


async def test_call_during_a_tick_is_not_lost() -> None:
    stopping, wake = asyncio.Event(), asyncio.Event()
    delays = iter([NEVER, NEVER])

    async def tick() -> float:
        wake.set()
        try:
            return next(delays)
        except StopIteration:
            stopping.set()
            return 0

    async with asyncio.timeout(10):
        await poll("test", tick, stopping=stopping, wake=wake)


async def test_two_loops_share_a_call() -> None:
    stopping, wake = asyncio.Event(), asyncio.Event()
    ticked: list[int] = []

    async def tick(number: int) -> float:
        ticked.append(number)
        return NEVER

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for number in (1, 2):
            group.create_task(poll("test", partial(tick, number), stopping=stopping, wake=wake))
        while len(ticked) < 2:
            await asyncio.sleep(0)
        wake.set()
        while len(ticked) < 4:
            await asyncio.sleep(0)
        stopping.set()
    assert sorted(ticked) == [1, 1, 2, 2]


async def test_failing_tick_is_called_again_after_growing_waits_that_a_success_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopping = asyncio.Event()
    waits: list[int] = []

    def note(failures: int) -> float:
        waits.append(failures)
        return 0.001

    monkeypatch.setattr(loop, "backoff_seconds", note)
    ends = iter(["bad", "bad", "good", "bad", "end"])

    async def tick() -> float:
        match next(ends):
            case "bad":
                raise KeyError("a bug")
            case "end":
                stopping.set()
        return 0

    async with asyncio.timeout(10):
        await poll("test", tick, stopping=stopping)
    assert waits == [1, 2, 1]


async def test_end_does_not_wait_for_a_failing_tick_to_succeed() -> None:
    stopping = asyncio.Event()

    async def tick() -> float:
        stopping.set()
        raise KeyError("a bug")

    async with asyncio.timeout(10):
        await poll("test", tick, stopping=stopping)
