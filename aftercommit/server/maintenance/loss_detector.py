"""Notices at once that the broker came back without what it held, and has all that waited sent again.

It looks for the marker (``broker/marker.py``). Where that is gone, the message of every waiting task that was sent out
before is gone too, unless its row still stands in the outbox; such tasks are sent again, with the same dispatch.

"Before" is before the broker went away, as this process or another one saw it. Where none did, it is before the marker
was found gone: what the relay published between the broker's return and the look is then sent twice, and the second
message is stale at the claim. Losses that leave the marker where it is, such as a purged queue, are the reconciler's,
and so are those between a broker that is away for maintenance alone and its end.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from aftercommit.broker.marker import Marker
from aftercommit.core.errors import BrokerUnavailable
from aftercommit.core.queues import Priority, QueueType, WorkQueue
from aftercommit.db import broker_loss, reconcile
from aftercommit.db.database import Database
from aftercommit.runtime.notifier import Notifier

log = structlog.get_logger(__name__)

INTERVAL_SECONDS: Final = 2.0

LOOK: Final = 5_000
"""So many unfinished tasks of a work queue are looked at in one transaction."""

TAKE_OVER_SECONDS: Final = 10.0
"""So long the process that noted a loss is alone with it: a second walk would read the same tasks."""

_FIRST: Final = UUID(int=0)


@dataclass(slots=True)
class Walk:
    """One walk over the unfinished tasks, for those that were sent out ``before``: the work queues that are ``left``,
    and the id ``after`` which to go on in the first of them."""

    before: datetime
    left: list[WorkQueue]
    after: UUID = _FIRST
    resent: int = 0
    postponed: int = 0
    began_at: float = field(default_factory=time.monotonic)


class LossDetector:
    """Any number may run. The one that notes a loss walks over the tasks; the others help when that takes long, or take
    over when it is gone. Each task is sent again by one of them."""

    def __init__(
        self,
        database: Database,
        notifier: Notifier,
        marker: Marker,
        *,
        queue_type: QueueType,
        work_queues: Callable[[], Sequence[WorkQueue]],
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._database = database
        self._notifier = notifier
        self._marker = marker
        self._queue_type = queue_type
        self._work_queues = work_queues
        self._interval_seconds = interval_seconds
        self._seen = False
        self._away_since: datetime | None = None
        self._looked_at: float | None = None
        self._planted = False
        self._noted = False
        self._open_since: float | None = None
        self._walk: Walk | None = None

    async def run_once(self) -> float:
        """Look for the marker; take a step if something is to be sent again. Returns the seconds until the next call: 0
        while there may be more to send."""
        if self._looked_at is None or time.monotonic() - self._looked_at >= self._interval_seconds:
            self._looked_at = time.monotonic()
            await self._look()
        before = await broker_loss.lost_before(self._database.fetch)
        if self._walk is not None and self._walk.before != before:
            self._end(self._walk)  # another process was at the end first, or more was lost
        if not self._is_ours(before) or before is None:
            self._looked_at = None
            return self._interval_seconds
        self._walk = self._walk or Walk(before, sorted(self._work_queues(), key=_urgency))
        await self._step(self._walk)
        return 0

    def _is_ours(self, before: datetime | None) -> bool:
        """Whether this process is to walk, if there is something to send again."""
        if before is None:
            self._noted, self._open_since = False, None
            return False
        now = time.monotonic()
        self._open_since = self._open_since or now
        return self._noted or now - self._open_since >= TAKE_OVER_SECONDS

    async def _look(self) -> None:
        """Raises DatabaseUnavailable; what was seen is then noted next time."""
        try:
            self._planted |= await self._marker.was_gone()
        except BrokerUnavailable as error:
            # No backoff: the next look shall come soon after the broker does. Other services log that it is away.
            log.debug("marker_not_seen", error=str(error))
            if self._seen and self._away_since is None:
                self._away_since = await broker_loss.note_away(self._database.fetch)
            return
        if self._planted:
            # After the marker was planted: what is lost from here on takes that away again.
            lost = await broker_loss.note_loss(self._database.fetch, self._queue_type, away_since=self._away_since)
            self._planted = False
            if lost:
                self._noted = True
                log.warning("broker_lost_messages", queue_type=str(self._queue_type))
        self._seen, self._away_since = True, None

    async def _step(self, walk: Walk) -> None:
        if not walk.left:
            await broker_loss.close(self._database.fetch, walk.before)
            self._end(walk)
            return
        before = walk.before
        async with self._database.transaction() as fetch:
            stretch = await broker_loss.find_lost(fetch, walk.left[0], after=walk.after, before=before, limit=LOOK)
            resent = await reconcile.resend(fetch, stretch.waiting, before=before) if stretch.waiting else 0
            postponed = await broker_loss.postpone(fetch, stretch.delayed, before=before) if stretch.delayed else 0
        if resent:
            self._notifier.outbox()
        walk.resent += resent
        walk.postponed += postponed
        if stretch.last_id is not None and stretch.looked == LOOK:
            walk.after = stretch.last_id
        else:
            walk.left.pop(0)
            walk.after = _FIRST

    def _end(self, walk: Walk) -> None:
        seconds = round(time.monotonic() - walk.began_at, 1)
        log.info("lost_messages_replaced", resent=walk.resent, postponed=walk.postponed, seconds=seconds)
        self._walk = None


def _urgency(work_queue: WorkQueue) -> int:
    return list(Priority).index(work_queue.priority)
