"""One round: lock a batch of outbox rows, publish them, delete what RabbitMQ confirmed.

The transaction is open only while an open, unblocked channel publishes, and no longer than the confirm bound. A dead
or blocked broker costs waiting, never an attempt; a crash after the confirm and before the delete costs a second
message, which dies at the claim.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from aftercommit.broker.publisher import Publisher
from aftercommit.broker.receipt import Fate
from aftercommit.core.errors import BrokerUnavailable, DatabaseTimeout
from aftercommit.db import outbox
from aftercommit.db.database import DatabaseConnection, Fetch
from aftercommit.db.outbox import OutboxRow
from aftercommit.runtime.poll_pace import PollPace
from aftercommit.server.relay.adoption import AT_ONCE, Adoption
from aftercommit.server.relay.backoff import Backoffs
from aftercommit.server.relay.grouping import pack
from aftercommit.server.relay.read_cursors import ReadCursors
from aftercommit.server.relay.settlement import Settlement
from aftercommit.server.relay.straggler_sweep import move_stragglers, rest_seconds
from aftercommit.server.relay.task_durations import TaskDurations

log = structlog.get_logger(__name__)

FEWEST_ROWS: Final = 10
"""What a round locks of each destination at least. Its rows may be smaller than those of the round before."""


def rows_for(tasks: int, *, seen_rows: int, seen_tasks: int) -> int:
    """How many rows make up about ``tasks`` tasks, if they are as large as those that were seen."""
    rows = tasks if not seen_tasks else math.ceil(tasks * seen_rows / seen_tasks)
    return min(max(rows, FEWEST_ROWS), tasks)


class Relay:
    """Any number of relays may run: each locks other rows.

    It owns the read cursors: rounds move them on, sweeps set them. ``tick`` and ``sweep`` are called side by side, each
    with a connection of its own, so that no round waits for a sweep. Rounds begin with the first sweep.
    """

    def __init__(
        self,
        *,
        connection: DatabaseConnection,
        sweep_connection: DatabaseConnection,
        publisher: Publisher,
        destinations: Callable[[], Sequence[str]],
        batch_size: int,
        tasks_per_message: int,
        max_attempts: int,
        poll_seconds: float,
    ) -> None:
        """``destinations``: those to read whether or not anything waits for them."""
        self._connection = connection
        self._sweep_connection = sweep_connection
        self._publisher = publisher
        self._destinations = destinations
        self._batch_size = batch_size
        self._max_attempts = max_attempts
        self._poll_seconds = poll_seconds
        self._pace = PollPace(longest_seconds=poll_seconds)
        self._cursors = ReadCursors()
        self._backoffs = Backoffs()
        self._durations = TaskDurations(most_tasks_per_message=tasks_per_message)
        self.wake = asyncio.Event()
        """Set when there may be rows to relay."""

        self.announced = asyncio.Event()
        """Set, besides, when those who committed rows say so."""

        self.totals: Counter[str] = Counter()
        """Tasks by fate since the start, and ``adopted_rows``."""

        self._rows_at_once = batch_size
        self._adoption = Adoption(interval_seconds=poll_seconds / 2)

    async def tick(self) -> float:
        """Relay one batch. Returns the seconds until the next tick: 0 while there may be more to do.

        Raises BrokerUnavailable or DatabaseUnavailable; nothing that was not confirmed is then forgotten.
        """
        announced = self.announced.is_set()
        self.announced.clear()
        await self._publisher.prepare()
        await self._durations.refresh(self._connection.fetch)
        now = asyncio.get_running_loop().time()
        adopted = await self._adoption.look(self._connection.fetch, now=now)
        self.totals["adopted_rows"] += adopted
        async with self._connection.transaction() as fetch:
            rows = await self._lock_batch(fetch, now)
            if not self._publisher.covers(row.delay_seconds for row in rows if row.delay_seconds is not None):
                return 0
            settlement = await self._publish(rows)
            await self._settle(fetch, rows, settlement)
        self._advance(settlement, now)
        if settlement.done() and not announced:
            self._pace.found(now=now)
        if unanswered := settlement.tasks(Fate.UNKNOWN):
            raise BrokerUnavailable(f"RabbitMQ did not confirm {unanswered} tasks in time. They stay in the outbox.")
        if self._was_full(rows) or adopted:
            return 0
        # A NOTIFY wakes the relay earlier. Without one it is to notice a broker that lost everything.
        wait = self._pace.seconds_until_next(now=now)
        return min(wait, self._backoffs.seconds_until_next(now=now) or wait)

    async def _lock_batch(self, fetch: Fetch, now: float) -> Sequence[OutboxRow]:
        """From every destination but those that are backed off or cannot be used."""
        resting = {*self._backoffs.resting(now=now), *self._publisher.problems}
        return await outbox.lock_batch(
            fetch, rows=self._rows_at_once, tasks=self._batch_size, cursors=self._cursors.without(resting)
        )

    def _was_full(self, rows: Sequence[OutboxRow]) -> bool:
        """Whether more rows than these may wait; sets how many the next round locks."""
        tasks = sum(len(row.task_ids or ()) or 1 for row in rows)
        full = len(rows) >= self._rows_at_once or tasks >= self._batch_size
        self._rows_at_once = rows_for(self._batch_size, seen_rows=len(rows), seen_tasks=tasks)
        return full

    async def _publish(self, rows: Sequence[OutboxRow]) -> Settlement:
        parcels = pack(rows, share=self._durations.share)
        receipts = await self._publisher.publish([parcel.message for parcel in parcels]) if parcels else []
        return Settlement(parcels, receipts)

    async def _settle(self, fetch: Fetch, rows: Sequence[OutboxRow], settlement: Settlement) -> None:
        """Delete what is confirmed, count what came back, park what the broker never takes."""
        if done := settlement.done():
            await outbox.delete(fetch, done)
        for row_id, refs in settlement.kept(rows).items():
            await outbox.keep(fetch, row_id, refs)
        await self._count_failures(fetch, settlement, Fate.RETURNED, max_attempts=self._max_attempts)
        await self._count_failures(fetch, settlement, Fate.UNACCEPTABLE, max_attempts=1)

    async def _count_failures(self, fetch: Fetch, settlement: Settlement, fate: Fate, *, max_attempts: int) -> None:
        if reasons := settlement.reasons(fate):
            parked = await outbox.count_failures(fetch, reasons, max_attempts=max_attempts)
            for row_id in sorted(parked):
                log.error("outbox_row_failed", row=row_id, reason=reasons[row_id])

    def _advance(self, settlement: Settlement, now: float) -> None:
        """After the commit: count, back off from destinations in trouble, read on behind what was taken."""
        self.totals += settlement.counts()
        troubles = settlement.troubles()
        for destination in settlement.destinations():
            if destination in troubles:
                self._backoffs.refused(destination, now=asyncio.get_running_loop().time())
                log.warning("relay_refused", destination=destination, reason=troubles[destination])
            else:
                self._backoffs.accepted(destination)
        for destination, row_id in settlement.last_ids().items():
            self._cursors.passed(destination, row_id, moment=now)

    async def sweep(self) -> float:
        """Find what the rounds pass by. Returns the seconds until the next sweep.

        Raises DatabaseUnavailable. One that took too long rests like one that ended.
        """
        loop = asyncio.get_running_loop()
        last_id = await outbox.last_id(self._sweep_connection.fetch)
        began_at = loop.time()  # connecting is not counted
        try:
            more = await self._sweep(last_id)
        except DatabaseTimeout as error:
            log.warning("straggler_sweep_failed", error=f"{error}: {error.__cause__}")
            more = False
        return 0 if more else max(rest_seconds(loop.time() - began_at), self._poll_seconds)

    async def _sweep(self, last_id: int) -> bool:
        """Set the cursors and move stragglers. Returns whether there may be more to move."""
        fetch = self._sweep_connection.fetch
        self._cursors.cap(last_id)
        before = self._cursors.all()
        first_ids = await outbox.first_waiting(fetch)
        for destination, first_id in first_ids.items():
            self._cursors.begin([destination], first_id - 1)
        self._cursors.begin(self._destinations(), last_id)
        adopted = await self._adoption.look_back(fetch)
        more = await move_stragglers(fetch, first_ids, before) or adopted >= AT_ONCE
        if first_ids or adopted:
            self.wake.set()
        return more
