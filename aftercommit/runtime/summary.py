"""The line that a role logs every LOG_SUMMARY_SECONDS: what it did since the last one, and how it stands."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

from aftercommit.runtime.poll import first_of


async def summarise(
    tell: Callable[[Mapping[str, int]], None],
    totals: Counter[str],
    *,
    seconds: float,
    stopping: asyncio.Event,
) -> None:
    """Call ``tell`` with what ``totals`` grew by since the last call, every ``seconds`` and once at the end."""
    before: Counter[str] = Counter()
    while not stopping.is_set():
        await first_of(stopping, timeout_seconds=seconds)
        now = Counter(totals)
        tell(now - before)
        before = now
