"""How full the queues with ``max_waiting`` are, without a question to Postgres for each submit.

Postgres counts every COUNT_SECONDS, and what this process submitted since that count began comes on top. So one process
is exact but for what ended meanwhile, and several processes together exceed a limit at most by what the others submit
in COUNT_SECONDS.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final

from aftercommit.core.errors import QueueFull
from aftercommit.db import queues
from aftercommit.db.database import Connect
from aftercommit.db.submit import NewTask
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.runtime.poll import poll

COUNT_SECONDS: Final = 0.5
IDLE_SECONDS: Final = 60.0


class QueueFill:
    def __init__(self, known: KnownQueues, connect: Connect) -> None:
        self._known = known
        self._connect = connect
        self._counted: dict[str, int] = {}
        self._since: Counter[str] = Counter()
        self._wake = asyncio.Event()
        known.follow(self._wake)

    async def run(self, stopping: asyncio.Event) -> None:
        """Count until ``stopping``, while there is a queue with a limit."""
        async with self._connect() as connection:

            async def count() -> float:
                if not self._known.bounded:
                    return IDLE_SECONDS
                since = Counter(self._since)
                counted = await queues.fill(connection.fetch, list(self._known.bounded.items()))
                # What was submitted while Postgres counted may be in the count, or not: it is taken for new.
                self._counted = counted
                self._since -= since
                return COUNT_SECONDS

            await poll("count_waiting", count, stopping=stopping, wake=self._wake)

    def check(self, new: Sequence[NewTask]) -> None:
        """Note these tasks as submitted. Raises QueueFull when one of their queues has no room for all of them."""
        wanted = Counter(task.queue for task in new if task.queue in self._known.bounded)
        for name, more in wanted.items():
            most = self._known.bounded[name]
            waiting = self._counted.get(name, 0) + self._since[name]
            if waiting + more > most:
                raise QueueFull(
                    f"{name} has {waiting} unfinished tasks, and its max_waiting is {most}: {more} more do not fit. "
                    "Nothing was submitted. Try again when some have ended."
                )
        self._since.update(wanted)
