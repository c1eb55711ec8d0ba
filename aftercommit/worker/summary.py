"""One log line now and then that says what the worker did since the last and what waits in it."""

import asyncio
from collections import Counter

import structlog

from aftercommit.runtime.poll import first_of
from aftercommit.worker.fetcher import Fetcher
from aftercommit.worker.places import Places
from aftercommit.worker.slots import Slots
from aftercommit.worker.statistics import Statistics

log = structlog.get_logger(__name__)


class Summary:
    def __init__(
        self, *, slots: Slots, fetcher: Fetcher, statistics: Statistics, processes: Places, transactions: Places
    ) -> None:
        self._slots = slots
        self._fetcher = fetcher
        self._statistics = statistics
        self._processes = processes
        self._transactions = transactions
        self._told: Counter[str] = Counter()

    async def run(self, seconds: float, stopping: asyncio.Event) -> None:
        """A line every ``seconds``, and a last one at ``stopping``."""
        while not stopping.is_set():
            await first_of(stopping, timeout_seconds=seconds)
            self.tell()

    def tell(self) -> None:
        counted = self._statistics.outcomes.copy()
        log.info(
            "worker_summary",
            running=self._slots.taken,
            buffered=self._fetcher.buffered,
            waiting_for_process=self._processes.waiting,
            waiting_for_transaction=self._transactions.waiting,
            **(counted - self._told),
        )
        self._told = counted
