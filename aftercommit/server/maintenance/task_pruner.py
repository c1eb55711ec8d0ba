"""Deletes finished tasks whose retention is over, a small batch at a time and no faster than the given rate.

Two walks over the task ids, which grow with time: one over the succeeded tasks, one over the unsuccessful. A walk
begins where the last one ended, so that it never reads again what it has deleted, however long a transaction elsewhere
keeps the dead entries. It ends where tasks are too young. A task that finished long after its id was made (it waited
for days, or an operator sent it out again) is passed over by that; a full pass from the first id on finds it, once a
day and after a restart.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from aftercommit.db import retention
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.retention import Kind
from aftercommit.db.tasks import first_id_at

log = structlog.get_logger(__name__)

BATCH: Final = 500
"""Tasks that one statement looks at, and at most deletes."""

STATEMENT_SECONDS: Final = 60.0
"""The first walk after a restart may have to read past all that a long transaction elsewhere keeps."""

LOOKS_PER_DELETE: Final = 20
"""So many tasks that are looked at and kept cost as much as one that is deleted."""

FULL_PASS_SECONDS: Final = 86_400.0
SHORTEST_FULL_PASS_SECONDS: Final = 600.0

LONGEST_LAG_SECONDS: Final = 3_600.0
SHORTEST_LAG_SECONDS: Final = 60.0

_FIRST: Final = UUID(int=0)


@dataclass(slots=True)
class Walk:
    """Where the walk over one kind of tasks stands. ``reached`` is the furthest id so far, ``after`` the last one of
    this pass; the pass began at ``began_at`` if it is a full one."""

    kind: Kind
    retention_seconds: float
    after: UUID = _FIRST
    reached: UUID = _FIRST
    until: UUID = _FIRST
    ended: bool = False
    began_at: float = field(default_factory=time.monotonic)

    def begin(self, now: datetime) -> None:
        """Find the end of this round by the database's clock. A day after the last full pass begin another."""
        # A task that takes up to this time from its id to its end is finished, and over, when the walk comes by.
        lag = min(max(self.retention_seconds, SHORTEST_LAG_SECONDS), LONGEST_LAG_SECONDS)
        self.until = first_id_at(now, shift=-timedelta(seconds=self.retention_seconds + lag))
        every_seconds = min(max(self.retention_seconds, SHORTEST_FULL_PASS_SECONDS), FULL_PASS_SECONDS)
        if self.ended and time.monotonic() - self.began_at >= every_seconds:
            self.after, self.began_at = _FIRST, time.monotonic()

    def advance(self, last_id: UUID | None, *, ended: bool) -> None:
        self.ended = ended
        if last_id is not None:
            self.after = last_id
            self.reached = max(self.reached, last_id)

    @property
    def behind_seconds(self) -> float:
        """How much time lies between the furthest task that was looked at and the end of the walk."""
        return 0.0 if self.ended else max(_milliseconds(self.until) - _milliseconds(self.reached), 0) / 1000


class TaskPruner:
    """Any number may run: one of them at a time deletes, the others stand by.

    ``connection`` must be nobody else's: the lock that says who deletes hangs on its session.
    """

    def __init__(
        self,
        connection: DatabaseConnection,
        *,
        retention_seconds: Mapping[Kind, float],
        tasks_per_second: float,
        interval_seconds: float,
        summary_seconds: float,
    ) -> None:
        """``retention_seconds``: 0 keeps the tasks of that kind for ever."""
        self._connection = connection
        self._walks = [Walk(kind, seconds) for kind, seconds in retention_seconds.items() if seconds > 0]
        self._tasks_per_second = tasks_per_second
        self._interval_seconds = interval_seconds
        self._summary_seconds = summary_seconds
        self._summarised_at = time.monotonic()
        self._deleted: Counter[Kind] = Counter()

    async def run_once(self) -> float:
        """Walk on by a batch of each kind. Returns the seconds until the next call, so that the rate is kept; the
        interval when all walks are at their end."""
        if not self._walks:
            return self._interval_seconds
        leads, now = await retention.lead(self._connection.fetch)
        if not leads:
            return self._interval_seconds
        seconds = sum([await self._step(walk, now) for walk in self._walks])
        self._summarise()
        return self._interval_seconds if all(walk.ended for walk in self._walks) else seconds

    async def _step(self, walk: Walk, now: datetime) -> float:
        """Delete what is over in the next batch; returns the seconds that this costs at the given rate."""
        walk.begin(now)
        fetch, seconds = self._connection.fetch, walk.retention_seconds
        stretch = await retention.find(
            fetch, walk.kind, retention_seconds=seconds, after=walk.after, until=walk.until, limit=BATCH
        )
        deleted = 0
        if stretch.found:
            deleted = await retention.delete(fetch, walk.kind, stretch.found, retention_seconds=seconds)
        self._deleted[walk.kind] += deleted
        walk.advance(stretch.last_id, ended=stretch.looked < BATCH)
        return max(deleted, stretch.looked / LOOKS_PER_DELETE) / self._tasks_per_second

    def _summarise(self) -> None:
        if time.monotonic() - self._summarised_at < self._summary_seconds:
            return
        self._summarised_at = time.monotonic()
        behind_seconds = max(walk.behind_seconds for walk in self._walks)
        if self._deleted or behind_seconds:
            counts = {str(kind): self._deleted[kind] for kind in Kind}
            log.info("retention_summary", behind_seconds=round(behind_seconds), **counts)
        self._deleted.clear()


def _milliseconds(task_id: UUID) -> int:
    """When a UUIDv7 was made (RFC 9562, 5.7)."""
    return task_id.int >> 80
