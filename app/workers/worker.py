"""The heart of a worker: claim for free slots, acknowledge, run, record."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim statement: its id, the lease's name that it is for, and what it claims."""

    id: UUID
    worker: str
    offers: Sequence[Offer]


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
        self._unanswered: Claim | None = None
        self._running: set[asyncio.Task[None]] = set()
        self.recorder = make_recorder(self._let_go)

    @property
    def running(self) -> int:
        """Slots taken."""
        return len(self._running)

    async def run(self, stopping: asyncio.Event) -> None:
        """Claim and start until ``stopping``; what runs then goes on."""
        await poll("claim", lambda: self._pump(stopping), stopping=stopping)

    async def _pump(self, stopping: asyncio.Event) -> float:
        await first_of(self._work, stopping)
        self._work.clear()
        while not stopping.is_set() and (free := self._slots - len(self._running)) > 0:
            claim = self._next_claim(free)
            if claim is None:
                break
            await self._claim(claim)
        return 0

    def _next_claim(self, free: int) -> Claim | None:
        """A claim whose answer was lost comes first, and unchanged: it may be committed, and nobody else can tell."""
        name = self._lease.name
        if self._unanswered is not None:
            if self._unanswered.worker == name:
                return self._unanswered
            # Under a lost lease it is the rescuer's, and its rings are stale.
            self._intake.put_back(self._unanswered.offers)
            self._unanswered = None
        offers = self._intake.take(free) if name else []
        return Claim(uuid7(), name, offers) if name and offers else None

    async def _claim(self, claim: Claim) -> None:
        """Claim what is offered, acknowledge it, start it. Raises DatabaseUnavailable: then it is to be asked again."""
        # A second message for what already runs here is stale like any other.
        wanted = {ring for _, ring in claim.offers} - self._held
        try:
            claimed: list[ClaimedTask] = []
            if wanted:
                async with single_statement(self._engine) as connection:
                    claimed = await claims.claim(connection, list(wanted), worker=claim.worker, claim_id=claim.id)
        except BaseException:
            self._unanswered = claim
            self._work.set()
            raise
        self._unanswered = None
        self.recorder.expect(claim.id, len(claimed))
        for task in claimed:
            self._lease.mark(f"{task.queue}.{task.priority}", task.queued_at)
            if self._lease.name == claim.worker:
                self._start(task)
            else:
                self.recorder.add(Ended(task, released(task, "the worker lost its lease")))
        for incoming in {incoming for incoming, _ in claim.offers}:
            await incoming.settle()

    def _start(self, task: ClaimedTask) -> None:
        log.debug("task_started", task_id=str(task.id), type=task.type, queue=task.queue, attempt=task.attempt)
        self._held.add(Ring(task.id, task.dispatch))
        running = asyncio.create_task(self._execute(task), name=f"task {task.id}")
        self._running.add(running)
        running.add_done_callback(self._free_slot)

    async def _execute(self, task: ClaimedTask) -> None:
        execution = Execution(task)
        outcome = await self._executor.run(execution)
        self.recorder.add(Ended(task, outcome, execution.recorded))
        if execution.thread is not None and not execution.thread.done():
            # The attempt is over, its thread is not: the slot stays taken.
            await asyncio.wait([execution.thread])

    def _free_slot(self, running: asyncio.Task[None]) -> None:
        self._running.discard(running)
        self._work.set()
        if not running.cancelled() and (error := running.exception()) is not None:
            log.error("execution_broke", task=running.get_name(), exc_info=error)

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
