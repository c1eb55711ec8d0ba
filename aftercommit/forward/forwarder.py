"""The forwarder: the rows of a caller's outbox to the service, each exactly once, in the order of their ids.

A batch is opened in the caller's database, sent with its Idempotency-Key, and settled. After a crash in between, it is
found open, and sent again as it is: the service knows the key and makes nothing twice. There is one open batch at most,
so rows with the same key, whose ids grow as they commit, arrive in that order.
"""

import time
from collections import Counter
from typing import Final
from uuid import UUID

import structlog
from uuid_utils.compat import uuid4

from aftercommit.db import caller_outbox
from aftercommit.db.caller_outbox import Batch
from aftercommit.db.database import DatabaseConnection, Fetch
from aftercommit.forward.delivery import Away, Delivery, Refused, halves
from aftercommit.forward.safe_cursor import SafeCursor
from aftercommit.runtime.poll import backoff_seconds
from aftercommit.runtime.poll_pace import PollPace

log = structlog.get_logger(__name__)

STANDBY_SECONDS: Final = 1.0
SWEEP_SECONDS: Final = 5.0
"""How often the search starts at the lowest id, where rows stand that are retried."""

KEY_SECONDS: Final = 82_800.0
"""The service holds an Idempotency-Key for a day; a batch that may have been taken is sent again for an hour less."""

RENEW_SECONDS: Final = 3_600.0
"""A batch that was surely not taken gets a new key when it is so old."""

TELL_SECONDS: Final = 60.0


class Forwarder:
    """``totals`` counts rows that were ``forwarded`` and ``refused``."""

    def __init__(
        self, connection: DatabaseConnection, delivery: Delivery, *, batch_size: int, poll_seconds: float
    ) -> None:
        self._connection = connection
        self._delivery = delivery
        self._batch_size = batch_size
        self._pace = PollPace(longest_seconds=poll_seconds)
        self._batch: Batch | None = None
        self._opened_here: UUID | None = None
        self._cursor = SafeCursor()
        self._swept_at = 0.0
        self._leads = False
        self._outage = _Outage()
        self.totals: Counter[str] = Counter()

    async def tick(self) -> float:
        """Forward one batch; the seconds until the next. Raises DatabaseUnavailable, and others that the loop logs."""
        try:
            return await self._forward()
        except BaseException:
            # Whether the last statement took effect is unknown: the database tells, to whoever leads by then.
            self._batch = None
            raise

    async def _forward(self) -> float:
        if self._batch is None:
            if not await self._lead():
                return STANDBY_SECONDS
            self._batch = await caller_outbox.find_open(self._connection.fetch) or await self._take()
        now = time.monotonic()
        if self._batch is None:
            return self._pace.seconds_until_next(now=now)
        self._pace.found(now=now)
        return await self._deliver(self._batch)

    async def _deliver(self, batch: Batch) -> float:
        try:
            refused = _too_old(batch) or await self._delivery.send(batch)
        except Away as away:
            return await self._wait(batch, away)
        self._outage.end()
        if refused is None:
            return await self._settle(batch)
        await self._refuse(batch, refused)
        return 0

    async def _lead(self) -> bool:
        leads = await caller_outbox.lead(self._connection.fetch)
        if leads != self._leads:
            log.info("forwarding" if leads else "standing_by")
        self._leads = leads
        return leads

    async def _take(self, fetch: Fetch | None = None) -> Batch | None:
        now = time.monotonic()
        if now - self._swept_at > SWEEP_SECONDS:
            self._swept_at = now
            self._cursor.rewind()
        taken = await caller_outbox.take(
            fetch or self._connection.fetch, uuid4(), after=self._cursor.after, limit=self._batch_size
        )
        if taken is None:
            return None
        batch, snapshot = taken
        self._opened_here = batch.id
        self._cursor.saw(
            batch.rows[-1].id,
            oldest_running=snapshot.oldest_running,
            next_transaction=snapshot.next_transaction,
        )
        return batch

    async def _settle(self, batch: Batch) -> float:
        """And open the next one in the same commit."""
        async with self._connection.transaction() as fetch:
            await caller_outbox.settle(fetch, batch.id)
            following = await self._take(fetch)
        self.totals["forwarded"] += len(batch.rows)
        self._batch = following
        return 0 if following is not None else self._pace.seconds_until_next(now=time.monotonic())

    async def _refuse(self, batch: Batch, refused: Refused) -> None:
        """Set aside what the service refuses, and go on with the rest: it has taken nothing of the batch."""
        refusals = [(batch.rows[position].id, reason) for position, reason in refused.reasons.items()]
        left = [row.id for position, row in enumerate(batch.rows) if position not in refused.reasons]
        if not refusals:
            left = list(halves(left))
        async with self._connection.transaction() as fetch:
            await caller_outbox.refuse(fetch, batch.id, refusals)
            await caller_outbox.reopen(fetch, batch.id, uuid4(), left)
        for row, reason in refusals:
            log.error("row_refused", row=row, reason=reason)
        self.totals["refused"] += len(refusals)
        self._batch = None
        self._cursor.rewind()

    async def _wait(self, batch: Batch, away: Away) -> float:
        if not away.undone:
            self._opened_here = None  # from now on it may have been taken
        elif batch.id == self._opened_here and batch.age_seconds > RENEW_SECONDS:
            new_id = uuid4()
            await caller_outbox.reopen(self._connection.fetch, batch.id, new_id, [row.id for row in batch.rows])
            self._opened_here = new_id
        # Its age is read anew, and who leads.
        self._batch = None
        return self._outage.goes_on(away)


def _too_old(batch: Batch) -> Refused | None:
    """What may have been taken so long ago that the service has forgotten the key is not sent again."""
    if batch.age_seconds <= KEY_SECONDS:
        return None
    reason = (
        "was sent over 23 hours ago and the answer was lost: it may be a task already. "
        "Look for it, then retry or discard this row."
    )
    return Refused(dict.fromkeys(range(len(batch.rows)), reason))


class _Outage:
    """What is logged while the service takes nothing: its beginning, each minute, and its end."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._told_at = 0.0
        self._tries = 0

    def goes_on(self, away: Away) -> float:
        """The seconds to wait."""
        now = time.monotonic()
        self._tries += 1
        if self._since is None:
            self._since = now
        if self._tries == 1 or now - self._told_at > TELL_SECONDS:
            self._told_at = now
            log.warning("service_away", seconds=round(now - self._since), tries=self._tries, error=str(away))
        return max(backoff_seconds(self._tries), away.retry_after_seconds or 0)

    def end(self) -> None:
        if self._since is not None:
            log.info("service_back", seconds=round(time.monotonic() - self._since), tries=self._tries)
        self._since, self._tries = None, 0
