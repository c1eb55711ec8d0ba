"""Fetches tasks of this worker's types that other workers have parked, since they do not know these types.

They wait in Postgres, not in the broker. This worker looks for them when a worker has parked some, when those that it
took are claimed, and once a second. What it takes goes into the buffer of its work queue, as a message does.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from aftercommit.core.queues import WorkQueue
from aftercommit.core.task_ref import TaskRef
from aftercommit.db import notifications, parked
from aftercommit.db.database import DatabaseConnection, Fetch
from aftercommit.runtime.poll import first_of, poll
from aftercommit.worker.fetcher import Fetcher
from aftercommit.worker.heartbeat import Heartbeat
from aftercommit.worker.prefetch_buffer import Incoming
from aftercommit.worker.slots import Slots
from aftercommit.worker.type_filter import TypeFilter

INTERVAL_SECONDS: Final = 1.0

MOST_REFS: Final = 5_000
"""In one statement."""

GATHER_SECONDS: Final = 0.02
"""After a NOTIFY: tasks that are parked one batch after the other share a look."""


class ParkedDelivery:
    """Stands for a message: refs that were taken together."""

    __slots__ = ("_on_handed_back", "_on_settled", "_refs", "received_at", "work_queue")

    of_broker = False

    def __init__(
        self,
        work_queue: WorkQueue,
        refs: Sequence[TaskRef],
        *,
        on_settled: Callable[[Sequence[TaskRef]], None],
        on_handed_back: Callable[[Sequence[TaskRef]], None],
    ) -> None:
        self.work_queue = work_queue
        self.received_at = asyncio.get_running_loop().time()
        self._refs = refs
        self._on_settled = on_settled
        self._on_handed_back = on_handed_back

    def acknowledge(self) -> None:
        self._on_settled(self._refs)

    async def hand_back(self) -> None:
        self._on_handed_back(self._refs)


class ParkedFetcher:
    """While nothing is parked this costs a connection that listens, and a statement a second."""

    def __init__(
        self,
        connection: DatabaseConnection,
        *,
        fetcher: Fetcher,
        slots: Slots,
        heartbeat: Heartbeat,
        types: TypeFilter,
    ) -> None:
        self._connection = connection
        self._fetcher = fetcher
        self._slots = slots
        self._heartbeat = heartbeat
        self._known = types.known
        self._called = asyncio.Event()
        self._claimed = asyncio.Event()
        self._settled: list[TaskRef] = []
        self._handed_back: list[TaskRef] = []
        self._buffered: list[Incoming] = []

    async def run(self, stopping: asyncio.Event) -> None:
        """Fetch until ``stopping``."""

        async def hold_connection() -> float:
            async with self._connection.listening(notifications.PARKED_CHANNEL, self._called.set) as fetch:
                self._called.set()  # something may have been parked while nobody listened
                while not stopping.is_set():
                    await self._wait(stopping)
                    await self._take(fetch)
            return 0

        await poll("fetch_parked", hold_connection, stopping=stopping)

    async def _wait(self, stopping: asyncio.Event) -> None:
        await first_of(self._called, self._claimed, stopping, timeout_seconds=INTERVAL_SECONDS)
        if self._called.is_set() and not self._claimed.is_set():
            await first_of(self._claimed, stopping, timeout_seconds=GATHER_SECONDS)
        self._called.clear()
        self._claimed.clear()

    async def _take(self, fetch: Fetch) -> None:
        room = self._room() if self._heartbeat.name is not None else {}
        settled, handed_back = self._settled[:MOST_REFS], self._handed_back[:MOST_REFS]
        found = await parked.take(fetch, known=self._known, room=room, settled=settled, handed_back=handed_back)
        del self._settled[: len(settled)], self._handed_back[: len(handed_back)]
        for work_queue, refs in found.items():
            delivery = ParkedDelivery(
                work_queue, refs, on_settled=self._on_settled, on_handed_back=self._handed_back.extend
            )
            self._buffered.append(incoming := Incoming(delivery, refs))
            self._fetcher.add(incoming)

    def _room(self) -> dict[WorkQueue, int]:
        """How many to take of each work queue: as many as there are slots free, or a few where none is, which wait for
        the next. Each has its own room, so that what waits of one keeps none of a higher priority out."""
        self._buffered = [incoming for incoming in self._buffered if not incoming.settled]
        waiting = Counter[WorkQueue]()
        for incoming in self._buffered:
            waiting[incoming.delivery.work_queue] += len(incoming.refs) + incoming.lent
        most = max(self._slots.free, self._slots.count // 4, 1)
        return {queue: most - waiting[queue] for queue in self._fetcher.open_work_queues if waiting[queue] < most}

    def _on_settled(self, refs: Sequence[TaskRef]) -> None:
        """They are claimed, by this worker or another one, or stale. There may be more."""
        self._settled += refs
        self._claimed.set()
