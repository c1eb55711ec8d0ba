"""A summary tells what was done since the last one; the totals only grow."""

import asyncio
from collections import Counter
from collections.abc import Mapping

from aftercommit.runtime.summary import summarise


async def test_summary_is_the_difference_to_the_last_one_and_comes_at_the_end_too() -> None:
    totals: Counter[str] = Counter(confirmed=3)
    stopping, told = asyncio.Event(), asyncio.Queue[Mapping[str, int]]()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(summarise(told.put_nowait, totals, seconds=0.01, stopping=stopping))
        assert await told.get() == {"confirmed": 3}
        totals.update(confirmed=2, returned=1)
        while (more := await told.get()) == {}:
            pass
        assert more == {"confirmed": 2, "returned": 1}
        stopping.set()
    assert totals == {"confirmed": 5, "returned": 1}
