"""The heart of a worker: claim for free slots, acknowledge, run, record."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from aftercommit.core.task_ref import TaskRef
from aftercommit.db import claims
from aftercommit.db.claims import ClaimedTask
from aftercommit.db.database import Connect, DatabaseConnection
from aftercommit.runtime.poll import poll
from aftercommit.worker.executor import Execution, Executor
from aftercommit.worker.fetcher import Fetcher, Offer
from aftercommit.worker.heartbeat import Heartbeat
from aftercommit.worker.outcome_policy import released
from aftercommit.worker.recorder import Ended, Recorder

log = structlog.get_logger(__name__)

CLAIMS_AT_ONCE: Final = 2
"""While Postgres works on one claim, what the other brought is started."""

IDLE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim statement: its id, the lease's name that it is for, what was offered, and which ``refs`` of that it
    claims."""

    id: UUID
    worker: str
    offers: Sequence[Offer]
    refs: frozenset[TaskRef]


class Worker:
    """Claims and outcomes are fenced on the lease's name. ``work`` says that there may be something to do."""

    def __init__(
        self,
        *,
        lease: Heartbeat,
        connect: Connect,
        fetcher: Fetcher,
        executor: Executor,
        make_recorder: Callable[[Callable[[ClaimedTask], None]], Recorder],
        slots: int,
        work: asyncio.Event,
    ) -> None:
        self._lease = lease
        self._connect = connect
        self._fetcher = fetcher
        self._executor = executor
        self._slots = slots
        self._work = work
        self._held: set[TaskRef] = set()
        self._unanswered: list[Claim] = []
        self._claiming = 0
        self._running: dict[asyncio.Task[None], ClaimedTask] = {}
        self.recorder = make_recorder(self._let_go)

    @property
    def running(self) -> int:
        """Slots taken."""
        return len(self._running)

    async def run(self, stopping: asyncio.Event) -> None:
        """Claim and start until ``stopping``; what runs then goes on."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CLAIMS_AT_ONCE):
                group.create_task(self._keep_claiming(stopping))

    async def _keep_claiming(self, stopping: asyncio.Event) -> None:
        async with self._connect() as connection:
            await poll("claim", lambda: self._pump(connection, stopping), stopping=stopping, wake=self._work)

    async def _pump(self, connection: DatabaseConnection, stopping: asyncio.Event) -> float:
        while not stopping.is_set() and (claim := self._next_claim()) is not None:
            await self._claim(connection, claim)
        return IDLE_SECONDS

    def _next_claim(self) -> Claim | None:
        """A claim whose answer was lost comes first, and unchanged: it may be committed, and nobody else can tell."""
        name = self._lease.name
        while self._unanswered:
            claim = self._unanswered.pop()
            if claim.worker == name:
                return claim
            # Under a lost lease it is the rescuer's, and its refs are stale.
            self._close(claim, kept=frozenset())
            self._fetcher.put_back(claim.offers)
        # One claim does not fill all slots, so that the next has some.
        share = min(self._slots - len(self._running) - self._claiming, -(-self._slots // CLAIMS_AT_ONCE))
        offers = self._fetcher.take(share) if name is not None and share > 0 else []
        return self._open(name, offers) if name is not None and offers else None

    def _open(self, name: str, offers: Sequence[Offer]) -> Claim:
        """Its refs are held and its slots taken until it is closed."""
        # A second message for what already runs here, or is being claimed, is stale like any other.
        refs = frozenset(ring for _, ring in offers) - self._held
        self._held |= refs
        self._claiming += len(refs)
        return Claim(uuid7(), name, offers, refs)

    def _close(self, claim: Claim, *, kept: Set[TaskRef]) -> None:
        self._claiming -= len(claim.refs)
        self._held -= claim.refs - kept

    async def _claim(self, connection: DatabaseConnection, claim: Claim) -> None:
        """Claim what is offered, start it, acknowledge it. Raises DatabaseUnavailable: then it is to be asked again."""
        claimed: list[ClaimedTask] = []
        try:
            if claim.refs:
                claimed = await claims.claim(connection.fetch, list(claim.refs), worker=claim.worker, claim_id=claim.id)
        except BaseException:
            self._unanswered.append(claim)
            self._work.set()
            raise
        self._close(claim, kept={TaskRef(task.id, task.dispatch) for task in claimed})
        self.recorder.expect(claim.id, len(claimed))
        for task in claimed:
            self._lease.statistics.claimed(task)
            if self._lease.name == claim.worker:
                self._start(task)
            else:
                self.recorder.add(Ended(task, released(task, "the worker lost its lease")))
        for incoming, refs in Counter(incoming for incoming, _ in claim.offers).items():
            incoming.settle(refs)

    def _start(self, task: ClaimedTask) -> None:
        log.debug("task_started", task_id=task.id, type=task.type, queue=task.queue, attempt=task.attempt)
        running = asyncio.create_task(self._execute(task))
        self._running[running] = task
        running.add_done_callback(self._free_slot)

    async def _execute(self, task: ClaimedTask) -> None:
        started_at = time.monotonic()
        execution = Execution(task)
        outcome = await self._executor.run(execution)
        self.recorder.add(Ended(task, outcome, execution.recorded))
        self._lease.statistics.ended(task, time.monotonic() - started_at)
        if execution.thread is not None and not execution.thread.done():
            # The attempt is over, its thread is not: the slot stays taken.
            await asyncio.wait([execution.thread])

    def _free_slot(self, running: asyncio.Task[None]) -> None:
        task = self._running.pop(running)
        self._work.set()
        if not running.cancelled() and (error := running.exception()) is not None:
            log.error("execution_broke", task_id=task.id, exc_info=error)

    def _let_go(self, task: ClaimedTask) -> None:
        self._held.discard(TaskRef(task.id, task.dispatch))

    def lease_changed(self) -> None:
        """Without a lease the tasks are somebody else's soon: what runs is cancelled, and recorded if still ours."""
        if self._lease.name is None:
            for running in self._running:
                running.cancel()
        self._work.set()

    async def drain(self, seconds: float) -> None:
        """Let running tasks finish for up to ``seconds``, then release the rest. ``recorder`` must be running."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=seconds)
        for running in set(self._running):
            running.cancel()
        if self._running:
            await asyncio.wait(set(self._running), timeout=1)
        await self.recorder.drain(self._lease.seconds)
