"""The queues there are, as a process knows them: those of its QUEUES until it has read the table, then what stands
there. A change is known a moment later, by a notification, or after POLL_SECONDS without one."""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from aftercommit.core.queue_options import QueueOptions
from aftercommit.core.queues import Priority, WorkQueue
from aftercommit.db import queues
from aftercommit.db.database import DatabaseConnection, Fetch
from aftercommit.db.notifications import QUEUES_CHANNEL
from aftercommit.db.queues import QueueRow
from aftercommit.runtime.poll import first_of, poll

log = structlog.get_logger(__name__)

POLL_SECONDS: Final = 0.8


class KnownQueues:
    def __init__(self, seeds: Sequence[str]) -> None:
        """``seeds`` are those of QUEUES: one that was never deleted is known even before it stands in the table."""
        self._seeds = tuple(seeds)
        self._version: str | None = None
        self.is_read = False
        """Whether the table was read: until then nobody knows what is paused or has a limit."""

        self._wake = asyncio.Event()
        self._followers: list[asyncio.Event] = []
        self.by_name: dict[str, QueueOptions] = {}
        """Those that take tasks, and those that are being deleted; the default first."""

        self.work_queues: tuple[WorkQueue, ...] = ()
        """Of each queue one for each priority. Another tuple after each change."""

        self.work_queue_names: tuple[str, ...] = ()
        self.plain: frozenset[str] = frozenset()
        """Those that take any task as it is."""

        self.bounded: dict[str, int] = {}
        """The ``max_waiting`` of those that have one."""

        self.limited: frozenset[str] = frozenset()
        """Those with a limit that workers share."""

        self._set([])

    @property
    def default(self) -> str:
        """Where a submit goes that names none."""
        return next(iter(self.by_name), self._seeds[0])

    @property
    def open_names(self) -> list[str]:
        """The queues that take tasks, the default first."""
        return [name for name, options in self.by_name.items() if not options.deleting]

    def follow(self, event: asyncio.Event) -> None:
        """Set ``event`` at each change."""
        self._followers.append(event)

    async def run(self, connection: DatabaseConnection, stopping: asyncio.Event) -> None:
        """Follow the table until ``stopping``, on a connection of its own."""

        async def hold() -> float:
            async with connection.listening(QUEUES_CHANNEL, self._wake.set) as fetch:
                while not stopping.is_set():
                    self._wake.clear()
                    await self.refresh(fetch)
                    await first_of(stopping, self._wake, timeout_seconds=POLL_SECONDS)
            return 0

        await poll("follow_queues", hold, stopping=stopping)

    async def refresh(self, fetch: Fetch) -> None:
        """Read what there is, if anything has changed. Raises DatabaseUnavailable."""
        version = await queues.version(fetch)
        if version == self._version and self.is_read:
            return
        self._set(await queues.read(fetch))
        self._version = version
        if not self.is_read:
            self.is_read = True
            self._tell()

    def _set(self, rows: Sequence[QueueRow]) -> None:
        stored = {row.options.name: row for row in rows}
        found = {name: row.options for name, row in stored.items() if row.deleted_at is None}
        found |= {name: QueueOptions(name) for name in self._seeds if name not in stored}
        # The default is this process's own, if it is there.
        first = [name for name in self._seeds if name in found]
        by_name = {name: found[name] for name in dict.fromkeys([*first, *found])}
        if by_name == self.by_name:
            return
        if self.by_name:
            for name in by_name.keys() - self.by_name.keys():
                log.info("queue_known", queue=name)
            for name in self.by_name.keys() - by_name.keys():
                log.info("queue_gone", queue=name)
        if by_name.keys() != self.by_name.keys():
            self.work_queues = tuple(WorkQueue(name, priority) for name in by_name for priority in Priority)
            self.work_queue_names = tuple(map(str, self.work_queues))
        self.by_name = by_name
        self.plain = frozenset(name for name, options in by_name.items() if options.takes_anything)
        self.limited = frozenset(name for name, options in by_name.items() if options.is_limited)
        self.bounded = {
            name: options.max_waiting for name, options in by_name.items() if options.max_waiting is not None
        }
        self._tell()

    def _tell(self) -> None:
        for event in self._followers:
            event.set()
