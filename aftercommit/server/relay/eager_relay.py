"""The relay inside the process that commits: what was committed goes to RabbitMQ at once, without a round through
Postgres.

Its rows are its own until ``eager_until``. What it cannot publish it hands over to the relays, which back off, count
attempts and park rows: trouble has one place, and this is not it.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import structlog

from aftercommit.broker.pipeline import Pipeline
from aftercommit.core.errors import BrokerUnavailable
from aftercommit.db import eager_rows
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.outbox import OutboxRow
from aftercommit.db.submit import NOT_EAGER, Eager
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.runtime.notifier import Notifier
from aftercommit.runtime.poll import poll
from aftercommit.server.relay.backoff import Backoffs
from aftercommit.server.relay.grouping import pack
from aftercommit.server.relay.send_window import OwnRow, SendWindow
from aftercommit.server.relay.task_durations import TaskDurations

log = structlog.get_logger(__name__)

MOST_BUFFERED_TASKS: Final = 500
"""What a slow broker still takes well within the grace, a message each. What goes beyond belongs to the relays."""

BUSY_SECONDS: Final = 0.25
IDLE_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 1.0


class EagerRelay:
    """One per process. ``terms``, and then ``committed`` or ``not_committed``, are called around each statement that
    submits; none of them waits."""

    def __init__(
        self,
        *,
        connection: DatabaseConnection,
        pipeline: Pipeline,
        notifier: Notifier,
        queues: KnownQueues,
        tasks_per_message: int,
        grace_seconds: float,
    ) -> None:
        self._connection = connection
        self._pipeline = pipeline
        self._notifier = notifier
        self._queues = queues
        self._grace_seconds = grace_seconds
        self._durations = TaskDurations(most_tasks_per_message=tasks_per_message)
        self._backoffs = Backoffs()
        self._window = SendWindow(pipeline, on_settled=self._settled, on_trouble=self._rest)
        self._published: list[int] = []
        self._left: list[int] = []
        self._is_idle = False
        self._wake = asyncio.Event()
        self._settled_one = asyncio.Event()
        self.is_ready = False
        """Whether it takes rows. While it does not, they belong to the relays."""

    @property
    def totals(self) -> Counter[str]:
        """Tasks by fate since the start."""
        return self._window.totals

    def terms(self, tasks: int) -> Eager:
        """For the next statement, of so many tasks: the work queues whose rows this process publishes, and the rows to
        delete along."""
        published, self._published = self._published, []
        if self.is_ready and not self._pipeline.is_open:
            self._wake.set()
        elif self.is_ready and self._window.buffered_tasks + tasks <= MOST_BUFFERED_TASKS:
            return Eager(self._usable(), self._grace_seconds, published)
        return Eager(published=published) if published else NOT_EAGER

    def _usable(self) -> Sequence[str]:
        avoided = {*self._backoffs.resting(now=asyncio.get_running_loop().time()), *self._pipeline.problems}
        known = self._queues.work_queue_names
        return [name for name in known if name not in avoided] if avoided else known

    def not_committed(self, terms: Eager) -> None:
        """The statement failed, or nobody knows."""
        if terms.published:
            self._published += terms.published  # to delete them again does no harm
            self._wake_up()

    def committed(self, terms: Eager, rows: Sequence[OutboxRow]) -> None:
        """Send the rows of a commit out."""
        if len(terms.work_queues) < len(self._queues.work_queue_names):
            self._notifier.outbox()
        if not rows:
            return
        deadline = asyncio.get_running_loop().time() + self._grace_seconds
        own = {row.id: OwnRow(row.id, row.destination) for row in rows}
        for parcel in pack(rows, share=self._durations.share):
            self._window.add(parcel, [own[row_id] for row_id in parcel.row_ids], deadline=deadline)
        self._window.send()
        self._wake_up()

    def _wake_up(self) -> None:
        """There is something to tidy up soon."""
        if self._is_idle:
            self._is_idle = False
            self._wake.set()

    def _settled(self, row: OwnRow) -> None:
        self._settled_one.set()
        if row.failed:
            self._left.append(row.id)
            self._wake.set()
        else:
            self._published.append(row.id)
            self._backoffs.accepted(row.destination)

    def _rest(self, destination: str, reason: str) -> None:
        """Leave a destination to the relays for a while."""
        now = asyncio.get_running_loop().time()
        if destination not in self._backoffs.resting(now=now):
            self._backoffs.refused(destination, now=now)
            log.warning("relay_refused", destination=destination, reason=reason)

    async def run(self, stopping: asyncio.Event) -> None:
        """Keep the connection, and tidy up behind what was sent, until ``stopping``."""
        await poll("eager_relay", self._tick, stopping=stopping, wake=self._wake)

    async def _tick(self) -> float:
        """Returns the seconds until the next tick. Raises BrokerUnavailable or DatabaseUnavailable; nothing that was
        not confirmed is then forgotten."""
        await self._give_up_if_late()
        await self._tidy_up()
        try:
            await self._pipeline.prepare()
        except BrokerUnavailable:
            await self._give_up()
            await self._tidy_up()
            raise
        await self._give_up_if_late()  # connecting may have taken long
        await self._durations.refresh(self._connection.fetch)
        self.is_ready = self._pipeline.is_open
        self._window.send()
        self._is_idle = self._window.is_empty and not self._published and not self._left
        return IDLE_SECONDS if self._is_idle and self.is_ready else BUSY_SECONDS

    async def _give_up_if_late(self) -> None:
        if late := self._window.late(asyncio.get_running_loop().time()):
            for destination in late:
                self._rest(destination, "RabbitMQ does not confirm in time")
            await self._give_up()

    async def _give_up(self) -> None:
        """Leave everything to the relays, and a broker that is silent or blocked."""
        self.is_ready = False
        self._window.give_up()
        await self._pipeline.close()

    async def _tidy_up(self) -> None:
        """Delete what is published and was not deleted along with a submit; hand over what is left."""
        if published := self._published:
            self._published = []
            try:
                await eager_rows.delete(self._connection.fetch, published)
            except BaseException:
                self._published += published
                raise
        if left := self._left[:]:
            await eager_rows.hand_over(self._connection.fetch, left)
            del self._left[: len(left)]
            self._notifier.outbox()

    async def _until_empty(self) -> None:
        while not self._window.is_empty:
            self._settled_one.clear()
            await self._settled_one.wait()

    async def close(self) -> None:
        """Wait a moment for the confirms of what is under way, and hand the rest over. Nothing may be committed any
        more. Raises DatabaseUnavailable; the relays then take the rows after the grace."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._until_empty()
        await self._give_up()
        await self._tidy_up()
        await self._connection.close()
