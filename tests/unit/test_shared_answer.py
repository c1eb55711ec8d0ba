"""An expensive answer is computed once for all, and for a share of the time only."""

import asyncio
from itertools import count

import pytest

from aftercommit.server.api import shared_answer
from aftercommit.server.api.shared_answer import SharedAnswer


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_all_who_ask_at_once_share_one_computation(clock: Clock) -> None:
    numbers = count()

    async def compute() -> int:
        await asyncio.sleep(0)
        return next(numbers)

    shared = SharedAnswer(compute, clock=clock)
    assert await asyncio.gather(*(shared.get() for _ in range(10))) == [0] * 10
    clock.now += 0.9
    assert await shared.get() == 0
    clock.now += 0.2
    assert await shared.get() == 1


async def test_expensive_answer_serves_for_longer(clock: Clock) -> None:
    numbers = count()

    async def compute() -> int:
        clock.now += 0.5
        return next(numbers)

    shared = SharedAnswer(compute, clock=clock)
    assert await shared.get() == 0
    clock.now += 9.9
    assert await shared.get() == 0
    clock.now += 0.2
    assert await shared.get() == 1


async def test_old_answer_serves_while_a_new_one_takes_long(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_answer, "PATIENCE_SECONDS", 0.01)
    numbers, go = count(), asyncio.Event()
    go.set()

    async def compute() -> int:
        await go.wait()
        return next(numbers)

    shared = SharedAnswer(compute, clock=clock)
    await shared.get()
    go.clear()
    clock.now += 30
    assert await shared.get() == 0
    # Too old to serve.
    clock.now += 31
    waiting = asyncio.create_task(shared.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    go.set()
    assert await waiting == 1


async def test_failure_is_told_to_all_who_ask_and_not_kept() -> None:
    errors = [ValueError("no")]

    async def compute() -> int:
        await asyncio.sleep(0)
        if errors:
            raise errors.pop()
        return 7

    shared = SharedAnswer(compute)
    ends = await asyncio.gather(shared.get(), shared.get(), return_exceptions=True)
    assert [type(end) for end in ends] == [ValueError] * 2
    assert await shared.get() == 7


async def test_computation_goes_on_when_the_one_who_asked_first_leaves() -> None:
    go = asyncio.Event()

    async def compute() -> int:
        await go.wait()
        return 1

    shared = SharedAnswer(compute)
    first, second = asyncio.create_task(shared.get()), asyncio.create_task(shared.get())
    await asyncio.sleep(0)
    first.cancel()
    go.set()
    assert await second == 1


async def test_close_gives_up_what_is_being_computed() -> None:
    shared = SharedAnswer(asyncio.Event().wait)
    waiting = asyncio.create_task(shared.get())
    await asyncio.sleep(0)
    await shared.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
