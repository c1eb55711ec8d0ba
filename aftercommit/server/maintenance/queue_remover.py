"""Empties the queues that are to be deleted, and ends their deletion; carries purges out.

How far it is stands in Postgres, and each batch is a transaction: any number may run, and a crash costs a batch. A task
that is committed to a queue when that is gone already (a caller's transaction may take hours) is treated like those
that were in it.
"""

import asyncio
import time
from typing import Final

import structlog

from aftercommit.broker.removal import QueueRemoval
from aftercommit.core.errors import BrokerUnavailable
from aftercommit.core.queue_options import DeleteMode
from aftercommit.core.queues import Priority
from aftercommit.db import cancels, queue_clearing, queues
from aftercommit.db.database import Database
from aftercommit.db.queues import QueueRow
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.runtime.notifier import Notifier

log = structlog.get_logger(__name__)

BATCH: Final = 500
IDLE_SECONDS: Final = 5.0
BUSY_SECONDS: Final = 0.5
PURGE_SECONDS: Final = 1.0

CLOSING_SECONDS: Final = 3.0
"""So long a process may not have heard that the queue is closed: it is looked at that much longer."""

LATECOMER_SECONDS: Final = 30.0
"""How often queues that are gone are looked at."""

_REASON: Final = "its queue was deleted"


class QueueRemover:
    def __init__(
        self,
        database: Database,
        notifier: Notifier,
        known: KnownQueues,
        removal: QueueRemoval,
        *,
        longest_retry_seconds: float,
    ) -> None:
        """``longest_retry_seconds``: so long RabbitMQ may hold a message back that is addressed to a queue."""
        self._database = database
        self._notifier = notifier
        self._removal = removal
        self._keep_seconds = longest_retry_seconds + CLOSING_SECONDS
        self._looked_at = 0.0
        self.wake: Final = asyncio.Event()
        """Set when a queue was changed."""
        known.follow(self.wake)

    async def run_once(self) -> float:
        """Take a step with each queue that is to be deleted, and look for latecomers now and then. Returns the seconds
        until the next step. Raises DatabaseUnavailable."""
        more = False
        for row in await queues.deleting(self._database.fetch):
            more |= await self._step(row)
        if time.monotonic() - self._looked_at > LATECOMER_SECONDS:
            self._looked_at = time.monotonic()
            more |= await self._look_for_latecomers()
            await self._remove_from_broker()
        return BUSY_SECONDS if more else IDLE_SECONDS

    async def _step(self, row: QueueRow) -> bool:
        """Whether there is more to do."""
        name = row.options.name
        if await self._clear(row):
            return True
        fetch = self._database.fetch
        left = await queues.unfinished(fetch, name, most=1)
        if left and row.delete_mode == DeleteMode.REFUSE:
            await queues.stop_delete(fetch, name)
            self._notifier.queues()
            log.warning("queue_not_deleted", queue=name, reason="tasks were submitted meanwhile")
            return False
        if left or await queue_clearing.are_on_their_way(fetch, name):
            return True
        if not await queues.end_delete(fetch, name, after_seconds=CLOSING_SECONDS):
            return True
        self._notifier.queues()
        log.info("queue_deleted", queue=name)
        return False

    async def _clear(self, row: QueueRow) -> int:
        """How many tasks were moved, or cancelled or marked, in one batch."""
        name = row.options.name
        async with self._database.transaction() as fetch:
            if row.delete_mode == DeleteMode.MOVE and row.move_to is not None:
                cleared = await queue_clearing.move(fetch, name, to=row.move_to, limit=BATCH)
            elif row.delete_mode == DeleteMode.CANCEL:
                found = await queue_clearing.find_cancellable(fetch, name, limit=BATCH)
                await cancels.cancel_free(fetch, dict.fromkeys(found, _REASON))
                cleared = len(found)
            else:
                cleared = 0
        if cleared and row.delete_mode == DeleteMode.MOVE:
            self._notifier.outbox()
        elif cleared:
            self._notifier.cancels()
        return cleared

    async def _look_for_latecomers(self) -> bool:
        """Whether there was one."""
        found = False
        for row in await queues.read(self._database.fetch):
            if row.deleted_at is None or not await queues.unfinished(self._database.fetch, row.options.name, most=1):
                continue
            found = True
            if row.delete_mode in (DeleteMode.MOVE, DeleteMode.CANCEL):
                await self._clear(row)
            else:
                await queues.revive(self._database.fetch, row.options.name)
                self._notifier.queues()
            log.warning("task_of_a_deleted_queue", queue=row.options.name, mode=row.delete_mode)
        return found

    async def _remove_from_broker(self) -> None:
        """Delete the work queues of those that are gone, once no retry queue has a message for them."""
        for name in await queues.left_in_broker(self._database.fetch, after_seconds=self._keep_seconds):
            try:
                await self._removal.delete([f"{name}.{priority}" for priority in Priority])
            except BrokerUnavailable as error:
                log.debug("queues_left_in_broker", queue=name, error=str(error))
                return
            await queues.gone_from_broker(self._database.fetch, name)


class Purger:
    """Any number may run: each purge is one's at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pruned_at = 0.0

    async def run_once(self) -> float:
        """Take the next step. Returns 0 while there is more to do. Raises DatabaseUnavailable."""
        async with self._database.transaction() as fetch:
            purge = await queue_clearing.lock_purge(fetch)
            if purge is None:
                if time.monotonic() - self._pruned_at > LATECOMER_SECONDS:
                    self._pruned_at = time.monotonic()
                    await queue_clearing.prune_purges(fetch)
                return PURGE_SECONDS
            looked = await queue_clearing.matching(fetch, purge, limit=BATCH)
            wanted = {row["id"]: f"purged from {purge['queue']}" for row in looked if row["matches"]}
            cancelled = await cancels.cancel_waiting(fetch, wanted) if wanted else set()
            ended = len(looked) < BATCH
            await queue_clearing.advance_purge(
                fetch, purge["id"], last=looked[-1] if looked else None, cancelled=len(cancelled), ended=ended
            )
        if ended:
            log.info("queue_purged", queue=purge["queue"], cancelled=purge["cancelled"] + len(cancelled))
        return 0
