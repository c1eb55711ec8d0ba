"""Every work queue, as Postgres and RabbitMQ see it."""

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, TypeVar

from aftercommit.broker.declaration import Declarer, Report
from aftercommit.broker.inspection import BrokerQueue, Inspector
from aftercommit.broker.management import Management
from aftercommit.broker.topology import DEAD_LETTERS
from aftercommit.core.errors import BrokerUnavailable
from aftercommit.db import queue_counts
from aftercommit.db.database import Database
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.server.api.readiness import NOT_CHECKED, UP, Readiness
from aftercommit.server.api.schemas import QueuesOut, WorkQueueOut

BROKER_SECONDS: Final = 1.0

T = TypeVar("T")


class QueueOverview:
    def __init__(
        self,
        *,
        queues: KnownQueues,
        database: Database,
        inspector: Inspector,
        declarer: Declarer,
        management: Management | None,
        readiness: Readiness,
    ) -> None:
        self._queues = queues
        self._database = database
        self._inspector = inspector
        self._declarer = declarer
        self._management = management
        self._readiness = readiness
        self._comparing: asyncio.Task[None] | None = None

    async def read(self) -> QueuesOut:
        """Ask both servers. What RabbitMQ does not answer within BROKER_SECONDS is null, and ``broker`` says why."""
        counted_at = datetime.now(UTC)
        counts = {row["name"]: row for row in await queue_counts.count(self._database.fetch)}
        names = list(dict.fromkeys([*self._queues.work_queue_names, *sorted(counts)]))
        (seen, state), unacknowledged, report = await asyncio.gather(
            self._depths([*names, DEAD_LETTERS]), self._unacknowledged(), self._differences()
        )
        queues = []
        for name in names:
            known, found = counts.get(name), seen.get(name)
            queues.append(
                WorkQueueOut(
                    name=name,
                    waiting=known["waiting"] if known else 0,
                    running=known["running"] if known else 0,
                    scheduled=known["scheduled"] if known else 0,
                    failed=known["failed"] if known else 0,
                    oldest_waiting_seconds=known["oldest_waiting_seconds"] if known else None,
                    ready=found.ready if found else None,
                    unacknowledged=unacknowledged.get(name),
                    consumers=found.consumers if found else None,
                    problem=report.problems.get(name),
                    tuning=report.tuning.get(name),
                )
            )
        dead = seen.get(DEAD_LETTERS)
        return QueuesOut(
            queues=queues,
            dead_letters=dead.ready if dead else None,
            broker=state,
            problems=dict(report.problems),
            counted_at=counted_at,
        )

    async def _depths(self, names: Sequence[str]) -> tuple[dict[str, BrokerQueue], str]:
        """The queues that RabbitMQ has, and its state. One that is known to be away is not asked."""
        if self._readiness.broker not in (UP, NOT_CHECKED):
            return {}, self._readiness.broker
        try:
            return await bounded(self._inspector.look(names)), UP
        except BrokerUnavailable as error:
            return {}, error.detail
        except TimeoutError:
            return {}, f"RabbitMQ does not answer within {BROKER_SECONDS:g} s."

    async def _unacknowledged(self) -> dict[str, int]:
        if self._management is None or self._readiness.broker not in (UP, NOT_CHECKED):
            return {}
        try:
            return await bounded(self._management.unacknowledged())
        except TimeoutError:
            return {}

    async def _differences(self) -> Report:
        """How existing queues differ from what this release declares, as last known.

        A comparison that takes longer than BROKER_SECONDS goes on, for later answers."""
        if self._readiness.broker in (UP, NOT_CHECKED):
            if self._comparing is None or self._comparing.done():
                self._comparing = asyncio.create_task(self._compare(), name="compare queues")
            await asyncio.wait({self._comparing}, timeout=BROKER_SECONDS)
        return self._declarer.report

    async def _compare(self) -> None:
        with suppress(BrokerUnavailable):  # ``broker`` says so
            await self._declarer.compare()

    async def close(self) -> None:
        """Give up a comparison that is under way."""
        if self._comparing is not None:
            self._comparing.cancel()
            await asyncio.wait({self._comparing})


async def bounded(answer: Awaitable[T]) -> T:
    """The answer. Raises TimeoutError after BROKER_SECONDS."""
    async with asyncio.timeout(BROKER_SECONDS):
        return await answer
