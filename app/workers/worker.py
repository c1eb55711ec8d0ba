"""The heart of a worker: claim for free slots, acknowledge, run, record."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine
from uuid_utils.compat import uuid7

from app.db import claims
from app.db.claims import ClaimedTask
from app.db.engine import single_statement
from app.process import first_of, poll
from app.rings import Ring
from app.workers.decision import released
from app.workers.executor import Execution, Executor
from app.workers.intake import Intake, Offer
from app.workers.lease import Lease
from app.workers.recorder import Ended, Recorder

log = structlog.get_logger(__name__)

CLAIMS_AT_ONCE: Final = 2
"""While Postgres works on one claim, what the other brought is started."""


class Worker:
    """Claims and outcomes are fenced on the lease's name. ``work`` says that there may be something to do."""

    def __init__(
        self,
        *,
        lease: Lease,
        engine: AsyncEngine,
        intake: Intake,
        executor: Executor,
        make_recorder: Callable[[Callable[[ClaimedTask], None]], Recorder],
        slots: int,
        work: asyncio.Event,
    ) -> None:
        self._lease = lease
        self._engine = engine
        self._intake = intake
        self._executor = executor
        self._slots = slots
        self._work = work
        self._held: set[Ring] = set()
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
                group.create_task(poll("claim", lambda: self._pump(stopping), stopping=stopping))

    async def _pump(self, stopping: asyncio.Event) -> float:
        await first_of(self._work, stopping)
        self._work.clear()
        while not stopping.is_set() and (name := self._lease.name) is not None and (share := self._free_share()) > 0:
            offers = self._intake.take(share)
            if not offers:
                break
            await self._claim(offers, name)
        return 0

    def _free_share(self) -> int:
        """How many slots one claim may fill: what is free, but not all of them."""
        share = -(-self._slots // CLAIMS_AT_ONCE)
        return min(self._slots - len(self._running) - self._claiming, share)

    async def _claim(self, offers: Sequence[Offer], name: str) -> None:
        """Claim what is offered, acknowledge it, start it. Raises DatabaseUnavailable with the offers put back."""
        # A second message for what already runs here, or is being claimed, is stale like any other.
        wanted = {ring for _, ring in offers} - self._held
        self._held |= wanted
        self._claiming += len(wanted)
        claim_id = uuid7()
        try:
            claimed = await self._claim_rings(wanted, name, claim_id)
        except BaseException:
            self._held -= wanted
            self._intake.put_back(offers)
            self._work.set()
            raise
        finally:
            self._claiming -= len(wanted)
        self.recorder.expect(claim_id, len(claimed))
        self._held -= wanted - {Ring(task.id, task.dispatch) for task in claimed}
        for task in claimed:
            self._lease.marks.claimed(task)
            if self._lease.name == name:
                self._start(task)
            else:
                self.recorder.add(Ended(task, released(task, "the worker lost its lease")))
        for incoming, rings in Counter(incoming for incoming, _ in offers).items():
            await incoming.settle(rings)

    async def _claim_rings(self, wanted: Collection[Ring], name: str, claim_id: UUID) -> list[ClaimedTask]:
        if not wanted:
            return []
        async with single_statement(self._engine) as connection:
            return await claims.claim(connection, list(wanted), worker=name, claim_id=claim_id)

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
        self._lease.marks.ended(task, time.monotonic() - started_at)
        if execution.thread is not None and not execution.thread.done():
            # The attempt is over, its thread is not: the slot stays taken.
            await asyncio.wait([execution.thread])

    def _free_slot(self, running: asyncio.Task[None]) -> None:
        task = self._running.pop(running)
        self._work.set()
        if not running.cancelled() and (error := running.exception()) is not None:
            log.error("execution_broke", task_id=task.id, exc_info=error)

    def _let_go(self, task: ClaimedTask) -> None:
        self._held.discard(Ring(task.id, task.dispatch))

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
