"""The shared limits of queues, as far as this worker is concerned: how many of their tasks it may run and start.

A grant is this worker's alone until it says less, so what it starts is bounded without a question per task. Before it
asks it keeps itself to the smaller of what it has and what it asks for: whatever becomes of the answer, it never holds
more than Postgres counts. Tokens are starts of a queue with a rate; those that it does not use soon go back.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Final

from aftercommit.core.errors import DatabaseTimeout, DatabaseUnavailable
from aftercommit.db import grants
from aftercommit.db.claims import ClaimedTask
from aftercommit.db.database import CLOSE_SECONDS, Connect, DatabaseConnection
from aftercommit.db.grants import Ask, Share
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.runtime.poll import poll
from aftercommit.worker.claim_signal import ClaimSignal
from aftercommit.worker.fetcher import Fetcher, Offer
from aftercommit.worker.heartbeat import Heartbeat
from aftercommit.worker.slots import Slots

SOON_SECONDS: Final = 0.1
"""Between two questions while tasks wait for an answer; and so long a token is kept."""

SHORT_SECONDS: Final = 0.25
"""Between two questions while this worker could use more than it has."""

LONG_SECONDS: Final = 1.0
IDLE_SECONDS: Final = 60.0

NONE: Final[Mapping[str, int]] = MappingProxyType({})


class Limits:
    """``run`` asks; the others are called by the claimer and never wait."""

    def __init__(
        self,
        *,
        queues: KnownQueues,
        connect: Connect,
        heartbeat: Heartbeat,
        slots: Slots,
        fetcher: Fetcher,
        signal: ClaimSignal,
    ) -> None:
        self._queues = queues
        self._connect = connect
        self._heartbeat = heartbeat
        self._slots = slots
        self._fetcher = fetcher
        self._signal = signal
        self._names: frozenset[str] = frozenset()
        self._worker: str | None = None
        self._caps: dict[str, int] = {}
        self._tokens: Counter[str] = Counter()
        self._in_flight: Counter[str] = Counter()
        self._asked_at = 0.0
        self._lacks_tokens = False
        self._stopping = False
        self._wake = asyncio.Event()
        self._follow()
        queues.follow(self._wake)

    def rooms(self) -> Mapping[str, int]:
        """How many more of each limited queue may start now; empty where no queue is limited."""
        self._follow()
        if not self._names:
            return NONE
        valid = self._worker is not None and self._heartbeat.holds(self._worker)
        rooms = {name: self._room(name) if valid else 0 for name in self._names}
        if self._lacks_tokens and time.monotonic() - self._asked_at >= SOON_SECONDS:
            self._wake.set()
        return rooms

    def _room(self, name: str) -> int:
        options = self._queues.by_name[name]
        room = self._slots.count
        if options.max_running is not None:
            room = self._caps.get(name, 0) - self._in_use(name)
        if options.rate_per_second is not None and room > 0:
            # A token that was not used soon is returned: with those of others it would be a second burst.
            tokens = self._tokens[name] if time.monotonic() - self._asked_at < SOON_SECONDS else 0
            self._lacks_tokens |= tokens <= 0 and self._fetcher.waiting(name) > 0
            room = min(room, tokens)
        return max(room, 0)

    def _in_use(self, name: str) -> int:
        return self._slots.taken_by[name] + self._in_flight[name]

    def took(self, offers: Iterable[Offer]) -> Counter[str]:
        """Note what is about to be claimed; how many of each limited queue, for ``answered``."""
        taken = Counter(name for incoming, _ in offers if (name := incoming.delivery.work_queue.queue) in self._names)
        self._in_flight += taken
        self._tokens.subtract(taken)
        return taken

    def answered(self, taken: Counter[str], claimed: Iterable[ClaimedTask]) -> None:
        """The claim of what was ``taken`` is answered: ``claimed`` have their slots by now."""
        if not taken:
            return
        self._in_flight -= taken
        self._tokens.update(taken)
        self._tokens.subtract(Counter(task.queue for task in claimed if task.queue in taken))

    def stop(self) -> None:
        """Ask for nothing more than what runs."""
        self._stopping = True
        self._wake.set()

    async def run(self, drained: asyncio.Event) -> None:
        """Ask until ``drained``, then give everything back."""
        async with self._connect() as connection:
            await poll("share_limits", lambda: self._tick(connection), stopping=drained, wake=self._wake)
            with suppress(TimeoutError, DatabaseUnavailable, DatabaseTimeout):  # maintenance finds them otherwise
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._give_up(connection, list(self._caps))

    async def _tick(self, connection: DatabaseConnection) -> float:
        """Returns the seconds until the next question."""
        self._follow()
        await self._give_up(connection, [name for name in self._caps if name not in self._names])
        name = self._heartbeat.name
        if name != self._worker:
            # What another lease of this worker held is maintenance's to free.
            self._worker = name
            self._caps.clear()
            self._tokens.clear()
        if not self._names or name is None:
            self._fetcher.bound(dict.fromkeys(self._names, 0))
            return LONG_SECONDS if self._names else IDLE_SECONDS
        asks = [self._ask(each) for each in sorted(self._names)]
        self._asked_at = time.monotonic()
        self._lacks_tokens = False
        async with connection.transaction() as fetch:
            shares = await grants.share(fetch, asks, worker=name, hold_seconds=SOON_SECONDS)
        for share in shares:
            self._take(share)
        self._fetcher.bound({each: self._bound(each) for each in self._names})
        self._signal.set()
        return self._pause(asks, shares)

    def _ask(self, name: str) -> Ask:
        in_use = self._in_use(name)
        more = 0 if self._stopping else self._slots.free
        wanted = in_use + more
        self._caps[name] = max(in_use, min(self._caps.get(name, 0), wanted))
        # Tokens that were held since the last question, and not used, go back.
        held = max(self._tokens.pop(name, 0), 0)
        tokens = min(self._fetcher.waiting(name), more)
        return Ask(name, in_use, wanted, tokens, returned=held)

    def _take(self, share: Share) -> None:
        if share.allowed is not None:
            self._caps[share.queue] = share.allowed
        if share.tokens is not None:
            self._tokens[share.queue] += share.tokens

    def _bound(self, name: str) -> int:
        """How many deliveries to hold: those that may start before they would be handed back."""
        options = self._queues.by_name[name]
        bound = self._slots.count
        if options.max_running is not None:
            cap = self._caps.get(name, 0)
            bound = cap + 1 if cap else 0
        if options.rate_per_second is not None:
            bound = min(bound, math.ceil(options.rate_per_second) + 1)
        return bound

    def _pause(self, asks: Iterable[Ask], shares: Iterable[Share]) -> float:
        found = {share.queue: share for share in shares}
        pause = LONG_SECONDS
        for ask in asks:
            share = found.get(ask.queue)
            if share is None:
                continue
            if share.allowed is not None and share.allowed < ask.wanted:
                pause = min(pause, SHORT_SECONDS)
            if share.tokens is not None and ask.tokens:
                pause = min(pause, max(share.seconds_until_next, SOON_SECONDS))
        return pause

    async def _give_up(self, connection: DatabaseConnection, names: list[str]) -> None:
        if names and self._worker is not None:
            await grants.give_up(connection.fetch, names, worker=self._worker)
        for name in names:
            self._caps.pop(name, None)
            self._tokens.pop(name, None)

    def _follow(self) -> None:
        """Look which queues with a limit are served."""
        limited = self._queues.limited
        names = limited & self._fetcher.served if limited else limited
        if names != self._names:
            self._names = names
            self._wake.set()
