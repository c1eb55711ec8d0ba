"""Claims tasks for free slots, starts them, and acknowledges their messages."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from aftercommit.core.task_ref import TaskRef
from aftercommit.db import claims, record_and_claim
from aftercommit.db.claims import ClaimedTask
from aftercommit.db.database import Connect, DatabaseConnection, Fetch
from aftercommit.db.outages import StatementRefused
from aftercommit.runtime.poll import poll
from aftercommit.worker.claim_signal import ClaimSignal
from aftercommit.worker.fetcher import Fetcher, Offer
from aftercommit.worker.heartbeat import Heartbeat
from aftercommit.worker.postponed import FIRST_WAIT_SECONDS, Postponed
from aftercommit.worker.recorder import Recorder
from aftercommit.worker.slots import Slots
from aftercommit.worker.statistics import Statistics

log = structlog.get_logger(__name__)

CLAIMS_AT_ONCE: Final = 2
"""While Postgres works on one claim, the tasks of the other are started."""

IDLE_SECONDS: Final = 60.0

HELD_TRIES: Final = 4
"""A row that is locked so often in a row stays so for longer than a statement takes."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim statement: its id, the lease's name that it is for, what was offered, and which ``refs`` of that it
    claims. ``tries`` says how often a row was found locked before, where it was. ``again``: it was asked before, and
    may have been committed then."""

    id: UUID
    worker: str
    offers: Sequence[Offer]
    refs: frozenset[TaskRef]
    tries: Mapping[TaskRef, int]
    again: bool = False


@dataclass(frozen=True, slots=True)
class LockedOffer:
    """An offer whose row somebody held locked, ``tries`` times in a row."""

    offer: Offer
    tries: int


class Claimer:
    """Claims are fenced on the lease's name. ``signal`` wakes it when there may be something to claim, or a slot."""

    def __init__(
        self,
        *,
        heartbeat: Heartbeat,
        connect: Connect,
        fetcher: Fetcher,
        slots: Slots,
        recorder: Recorder,
        statistics: Statistics,
        signal: ClaimSignal,
    ) -> None:
        self._heartbeat = heartbeat
        self._connect = connect
        self._fetcher = fetcher
        self._slots = slots
        self._recorder = recorder
        self._statistics = statistics
        self._signal = signal
        self._asked: set[TaskRef] = set()
        self._unanswered: list[Claim] = []
        self._locked: Postponed[LockedOffer] = Postponed()

    async def run(self, stopping: asyncio.Event) -> None:
        """Claim and start tasks until ``stopping``; what runs then goes on."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CLAIMS_AT_ONCE):
                group.create_task(self._keep_claiming(stopping))

    async def _keep_claiming(self, stopping: asyncio.Event) -> None:
        wake = asyncio.Event()
        async with self._connect() as connection:
            await poll("claim", lambda: self._claim_all(connection, wake, stopping), stopping=stopping, wake=wake)

    async def _claim_all(self, connection: DatabaseConnection, wake: asyncio.Event, stopping: asyncio.Event) -> float:
        self._signal.work(wake)
        while not stopping.is_set() and (claim := self._next_claim()) is not None:
            if self._signal.wants_slots and self._slots.free > len(self._asked):
                self._signal.set()
            await self._claim(connection, claim)
        self._signal.rest(wake)
        # What is due already waits for a slot or a lease.
        return max(self._locked.seconds_until_next(IDLE_SECONDS), FIRST_WAIT_SECONDS)

    def _next_claim(self) -> Claim | None:
        """A claim whose answer was lost comes first, then rows that were locked, then what the fetcher has."""
        name = self._heartbeat.name
        if (claim := self._next_unanswered(name)) is not None:
            return claim
        # One claim does not fill all slots, so that the next has some.
        share = min(self._slots.free - len(self._asked), -(-self._slots.count // CLAIMS_AT_ONCE))
        if name is None or share <= 0:
            self._signal.wants_slots = True
            return None
        again = self._locked.take_due(share)
        fetched = self._fetcher.take(share - len(again))
        self._signal.wants_slots = self._fetcher.buffered > 0
        self._fetcher.refill(free_slots=share - len(again) - len(fetched))
        if not (again or fetched):
            return None
        return self._open(
            name, [*(each.offer for each in again), *fetched], tries={each.offer[1]: each.tries for each in again}
        )

    def _next_unanswered(self, name: str | None) -> Claim | None:
        """It is asked again unchanged: it may be committed, and nobody else can tell."""
        while self._unanswered:
            claim = self._unanswered.pop()
            if claim.worker == name:
                return claim
            # Under a lost lease it is the rescuer's, and its refs are stale.
            self._asked -= claim.refs
            self._fetcher.put_back(claim.offers)
        return None

    def _open(self, name: str, offers: Sequence[Offer], *, tries: Mapping[TaskRef, int]) -> Claim:
        """Its refs are kept back and its slots are taken until it is answered."""
        # A second message for what already runs here, or is being claimed, is stale like any other.
        refs = frozenset(ref for _, ref in offers) - self._asked - self._recorder.unrecorded
        self._asked |= refs
        return Claim(uuid7(), name, offers, refs, tries)

    async def _claim(self, connection: DatabaseConnection, claim: Claim) -> None:
        """Claim what is offered, start it, acknowledge it. Raises DatabaseUnavailable: then it is to be asked again."""
        try:
            claimed, locked = await self._ask(connection, claim)
        except BaseException:
            self._unanswered.append(replace(claim, again=True))
            self._signal.set()
            raise
        self._asked -= claim.refs
        # What is locked now may run for this worker since the first time: its claim outlives the outcomes of the rest.
        self._recorder.expect(claim.id, claimed, keep=claim.again and bool(locked))
        self._statistics.claimed(claimed)
        for task in claimed:
            self._slots.start(task, still_ours=self._heartbeat.name == claim.worker)
        self._postpone(claim, locked)
        _acknowledge([offer for offer in claim.offers if offer[1] not in locked])

    async def _ask(self, connection: DatabaseConnection, claim: Claim) -> tuple[list[ClaimedTask], set[TaskRef]]:
        """The claimed tasks, and the refs whose rows somebody holds locked. All others are stale."""
        if not claim.refs:
            return [], set()
        claimed = await self._send(connection.fetch, claim)
        missing = claim.refs - {task.ref for task in claimed}
        if not missing:
            return claimed, set()
        return claimed, await claims.find_claimable(connection.fetch, missing, worker=claim.worker)

    async def _send(self, fetch: Fetch, claim: Claim) -> list[ClaimedTask]:
        """The claimed tasks. The statement takes along the outcomes that wait to be recorded."""
        refs = list(claim.refs)
        if (batch := self._recorder.lend()) is not None:
            try:
                claimed, recorded = await record_and_claim.record_and_claim(
                    fetch, batch.outcomes, refs, closed=batch.closed, worker=claim.worker, claim_id=claim.id
                )
            except StatementRefused:  # over an outcome: nothing happened, and the claim goes on alone
                self._recorder.failed(batch)
            except BaseException:
                self._recorder.failed(batch)
                raise
            else:
                self._recorder.wrote(batch, recorded)
                return claimed
        return await claims.claim(fetch, refs, worker=claim.worker, claim_id=claim.id)

    def _postpone(self, claim: Claim, locked: set[TaskRef]) -> None:
        """Keep what is locked for another try. Its messages stay unacknowledged."""
        if new := len(locked - claim.tries.keys()):
            log.info("claim_rows_locked", count=new)
        for offer in claim.offers:
            if offer[1] in locked:
                tries = claim.tries.get(offer[1], 0) + 1
                self._locked.add(LockedOffer(offer, tries), tries=tries)
                if tries >= HELD_TRIES:
                    self._fetcher.hold(offer)


def _acknowledge(offers: Sequence[Offer]) -> None:
    for incoming, refs in Counter(incoming for incoming, _ in offers).items():
        incoming.settle(refs)
