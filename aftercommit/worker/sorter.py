"""Sorts messages before their tasks are claimed, in a worker that shares its queues with other code bases.

Tasks whose type this worker does not know are parked, for a worker that knows it. That needs no slot: a full worker
holds up nobody else's tasks.
"""

import asyncio
from typing import Final

from aftercommit.db import parked
from aftercommit.db.database import DatabaseConnection
from aftercommit.runtime.notifier import Notifier
from aftercommit.runtime.poll import poll
from aftercommit.worker.fetcher import Fetcher
from aftercommit.worker.heartbeat import Heartbeat
from aftercommit.worker.statistics import Statistics
from aftercommit.worker.type_filter import TypeFilter

MOST_REFS: Final = 1_000
"""In one statement."""

IDLE_SECONDS: Final = 60.0
NO_LEASE_SECONDS: Final = 0.2


class Sorter:
    """Does nothing, and opens no connection, until the worker has met a type that it does not know."""

    def __init__(
        self,
        connection: DatabaseConnection,
        *,
        fetcher: Fetcher,
        heartbeat: Heartbeat,
        notifier: Notifier,
        statistics: Statistics,
        types: TypeFilter,
    ) -> None:
        self._connection = connection
        self._fetcher = fetcher
        self._heartbeat = heartbeat
        self._notifier = notifier
        self._statistics = statistics
        self._types = types
        self._sorts = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Sort until ``stopping``."""
        async with self._connection:
            await poll("sort", self._tick, stopping=stopping, wake=self._types.wake)

    async def _tick(self) -> float:
        if self._types.on and not self._sorts:
            self._sorts = True
            self._fetcher.unsort()
        batch = self._fetcher.unsorted(MOST_REFS)
        if not batch:
            return IDLE_SECONDS
        if (worker := self._heartbeat.name) is None:
            return NO_LEASE_SECONDS
        refs = {ref for incoming in batch for ref in incoming.refs}
        found = await parked.park_unknown(self._connection.fetch, refs, known=self._types.known, worker=worker)
        for incoming in batch:
            self._fetcher.let_in(incoming, parked=found)
        if found:
            self._statistics.parked(len(found))
            self._notifier.parked()
        return 0
