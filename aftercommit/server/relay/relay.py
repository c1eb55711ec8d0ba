"""One round: lock a batch of outbox rows, publish them, delete what RabbitMQ confirmed.

The transaction is open only while an open, unblocked channel publishes, and no longer than the confirm bound. A dead
or blocked broker costs waiting, never an attempt; a crash after the confirm and before the delete costs a second
message, which dies at the claim.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from aftercommit.broker.publisher import Fate, Publisher, Receipt
from aftercommit.core.errors import BrokerUnavailable
from aftercommit.db import outbox, queue_statistics
from aftercommit.db.database import DatabaseConnection, Fetch
from aftercommit.db.outbox import OutboxRow
from aftercommit.server.relay.backoff import Backoffs
from aftercommit.server.relay.grouping import Parcel, pack, tasks_per_message
from aftercommit.server.relay.read_cursors import ReadCursors

log = structlog.get_logger(__name__)

TASK_SECONDS_AGE: Final = 3.0
"""After so many seconds the relay asks again how long tasks take: workers tell as often."""


Settled = Sequence[tuple[Parcel, Receipt]]
"""What was published, and what became of it."""


@dataclass(slots=True)
class RelayTotals:
    """What the summary line tells; reset by it."""

    rows: Counter[Fate] = field(default_factory=Counter)


class Relay:
    """Any number of relays may run: each locks other rows."""

    def __init__(
        self,
        *,
        connection: DatabaseConnection,
        publisher: Publisher,
        batch_size: int,
        tasks_per_message: int,
        max_attempts: int,
        poll_seconds: float,
        cursors: ReadCursors,
    ) -> None:
        self._connection = connection
        self._publisher = publisher
        self._batch_size = batch_size
        self._rings_per_message = tasks_per_message
        self._max_attempts = max_attempts
        self._poll_seconds = poll_seconds
        self._cursors = cursors
        self._backoffs = Backoffs()
        self._task_seconds: dict[str, float] = {}
        self._asked_at = -TASK_SECONDS_AGE
        self.totals = RelayTotals()

    async def tick(self) -> float:
        """Relay one batch. Returns the seconds until the next tick: 0 while there may be more to do.

        Raises BrokerUnavailable or DatabaseUnavailable; nothing that was not confirmed is then forgotten.
        """
        await self._publisher.prepare()
        await self._ask_how_long_tasks_take()
        async with self._connection.transaction() as fetch:
            now = asyncio.get_running_loop().time()
            cursors = self._cursors.without(self._backoffs.resting(now=now))
            rows = await outbox.lock_batch(fetch, limit=self._batch_size, cursors=cursors)
            if not self._publisher.covers(row.delay_seconds for row in rows if row.delay_seconds is not None):
                return 0
            settled = await self._relay(fetch, rows) if rows else []
        self._pass(settled, now)
        if silent := sum(receipt.fate is Fate.UNKNOWN for _, receipt in settled):
            raise BrokerUnavailable(f"{silent} messages got no answer; they stay in the outbox")
        if len(rows) >= self._batch_size:
            return 0
        # What is committed meanwhile comes with a call. Without one a broker that lost everything is to be noticed.
        return min(self._poll_seconds, self._backoffs.seconds_until_next(now=now) or self._poll_seconds)

    async def _ask_how_long_tasks_take(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._asked_at >= TASK_SECONDS_AGE:
            self._asked_at = now
            self._task_seconds = await queue_statistics.task_seconds(self._connection.fetch)

    async def _relay(self, fetch: Fetch, rows: Sequence[OutboxRow]) -> Settled:
        """Publish and settle ``rows``."""
        parcels = pack(rows, share=self._share)
        receipts = await self._publisher.publish([parcel.message for parcel in parcels])
        settled = list(zip(parcels, receipts, strict=True))
        for parcel, receipt in settled:
            self.totals.rows[receipt.fate] += len(parcel.row_ids)
        self._learn(settled)
        confirmed = [
            row_id for parcel, receipt in settled if receipt.fate is Fate.CONFIRMED for row_id in parcel.row_ids
        ]
        if confirmed:
            await outbox.delete(fetch, confirmed)
        await self._count_returned(fetch, settled)
        return settled

    def _pass(self, settled: Settled, moment: float) -> None:
        """Where a destination took everything that was seen at ``moment``, later rounds begin behind it: the deletes
        are committed."""
        left = {parcel.destination for parcel, receipt in settled if receipt.fate is not Fate.CONFIRMED}
        last: dict[str, int] = {}
        for parcel, _ in settled:
            last[parcel.destination] = max(last.get(parcel.destination, 0), *parcel.row_ids)
        for destination in last.keys() - left:
            self._cursors.passed(destination, last[destination], moment=moment)

    def _share(self, work_queue: str, waiting: int) -> int:
        seconds = self._task_seconds.get(work_queue)
        return tasks_per_message(waiting, task_seconds=seconds, largest=self._rings_per_message)

    def _learn(self, settled: Settled) -> None:
        """A destination that refused or returned anything rests; one that only accepted does not."""
        now = asyncio.get_running_loop().time()
        troubled = {
            parcel.destination: receipt.reason
            for parcel, receipt in settled
            if receipt.fate in (Fate.REFUSED, Fate.RETURNED)
        }
        for destination in {parcel.destination for parcel, _ in settled}:
            if destination in troubled:
                self._backoffs.refused(destination, now=now)
                log.warning("relay_refused", destination=destination, reason=troubled[destination])
            else:
                self._backoffs.accepted(destination)

    async def _count_returned(self, fetch: Fetch, settled: Settled) -> None:
        errors = {
            row_id: receipt.reason
            for parcel, receipt in settled
            if receipt.fate is Fate.RETURNED
            for row_id in parcel.row_ids
        }
        if errors:
            parked = await outbox.count_returned(fetch, errors, max_attempts=self._max_attempts)
            for row_id in sorted(parked):
                log.error("outbox_row_failed", row=row_id, reason=errors[row_id])
