"""The deliveries of one work queue that wait in this worker: received, lent out ref by ref, handed back when they wait.

Unacknowledged deliveries are the back-pressure on the broker. They must not be stuck here: deliveries that this worker
cannot start within ``hand_back_seconds`` go back, so that an idle worker gets them, and the buffer receives again when
a slot is free. The prefetch follows what the worker managed: a quarter after each hand-back, twice as much whenever the
buffer was empty while slots were free. Deliveries that are held, since the rows of their tasks are locked, come on top:
they must not keep others out.

A buffer may be shut, for instance since its queue is paused: it hands back what it has and receives nothing.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from itertools import chain, islice
from typing import Final, Protocol

import structlog

from aftercommit.broker import message
from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.consumer import Delivery, Subscription
from aftercommit.core.errors import MalformedMessage
from aftercommit.core.queues import WorkQueue
from aftercommit.core.task_ref import TaskRef
from aftercommit.runtime.poll import first_of
from aftercommit.worker.type_filter import TypeFilter

log = structlog.get_logger(__name__)

CHECKS_PER_HAND_BACK: Final = 6
GROWTH_SECONDS: Final = 1.0

MOST_HELD: Final = 1_000
"""More held deliveries than this count against the prefetch."""

LARGEST_PREFETCH: Final = 65_535
"""AMQP has two bytes for it."""


class Source(Protocol):
    """What refs came with: a delivery, of the broker or of parked tasks."""

    work_queue: WorkQueue
    received_at: float
    of_broker: bool

    def acknowledge(self) -> None: ...

    async def hand_back(self) -> None: ...


class Incoming:
    """A delivery. ``refs`` are those of its refs that wait for their turn; ``lent`` more are being claimed."""

    __slots__ = ("delivery", "lent", "refs", "settled")

    def __init__(self, delivery: Source, refs: list[TaskRef]) -> None:
        self.delivery = delivery
        self.refs = deque(refs)
        self.lent = 0
        self.settled = False

    def settle(self, refs: int) -> None:
        """So many of the lent refs are claimed or known to be stale. The last one acknowledges the delivery."""
        self.lent -= refs
        if not (self.settled or self.refs or self.lent):
            self.settled = True
            self.delivery.acknowledge()


class PrefetchBuffer:
    def __init__(
        self,
        connection: BrokerConnection,
        work_queue: WorkQueue,
        *,
        prefetch: int,
        hand_back_seconds: float,
        on_work: Callable[[], None],
        on_malformed: Callable[[Delivery, str], None],
        types: TypeFilter,
    ) -> None:
        self.work_queue = work_queue
        self.deliveries: deque[Incoming] = deque()
        self.unsorted: deque[Incoming] = deque()
        """Nobody knows yet whether this worker knows the types of their tasks."""
        self._types = types
        self._connection = connection
        self._full_prefetch = self._prefetch = prefetch
        self._hand_back_seconds = hand_back_seconds
        self._on_work = on_work
        self._on_malformed = on_malformed
        self._wants_more = asyncio.Event()
        self._regulated = asyncio.Event()
        self._most: int | None = None
        self._receives = 0
        self._paused = False
        self._grown_at = 0.0
        self._held: set[Incoming] = set()
        self._held_on_top = 0

    @property
    def is_shut(self) -> bool:
        return self._most == 0

    @property
    def rests(self) -> bool:
        """Whether it receives nothing until slots are free."""
        return self._paused and not self.is_shut

    def bound(self, most: int | None) -> None:
        """Hold at most so many deliveries, whatever the prefetch says; 0 shuts the buffer."""
        if most != self._most:
            self._most = most
            self._regulated.set()

    def refill(self) -> None:
        """Slots are free: a paused buffer receives again, an empty one may hold more."""
        if self._paused or (not self.deliveries and self._prefetch < self._full_prefetch):
            self._wants_more.set()

    def add(self, incoming: Incoming) -> None:
        """Let refs in that did not come through the broker. They are older than the messages, and go before all but one
        of them: so neither keep the others from having their turn."""
        self.deliveries.insert(1, incoming)
        self._on_work()

    def take(self) -> tuple[Incoming, TaskRef]:
        """The next ref. Only for a buffer that has one."""
        incoming = self.deliveries[0]
        ref = incoming.refs.popleft()
        incoming.lent += 1
        if not incoming.refs:
            self.deliveries.popleft()
        return incoming, ref

    def put_back(self, incoming: Incoming, ref: TaskRef) -> None:
        """Undo a ``take``. Nothing is left to undo for a delivery that went back to the broker meanwhile, with all its
        refs."""
        incoming.lent -= 1
        if incoming.settled:
            return
        if not incoming.refs:
            self.deliveries.appendleft(incoming)
        incoming.refs.appendleft(ref)

    def hold(self, incoming: Incoming) -> None:
        """A ref of it was lent out and waits, nobody knows how long, for a locked row."""
        self._held.add(incoming)

    async def consume(self, stopping: asyncio.Event) -> float:
        """Consume until ``stopping`` or until the channel is lost. Raises BrokerUnavailable."""
        subscription = Subscription(self._connection, self.work_queue, on_delivery=self._receive)
        try:
            await subscription.open()
            self._paused = True
            if not self.is_shut:
                await self._start(subscription)
            while not (stopping.is_set() or subscription.lost.is_set()):
                check_seconds = self._hand_back_seconds / CHECKS_PER_HAND_BACK
                await first_of(
                    stopping, subscription.lost, self._wants_more, self._regulated, timeout_seconds=check_seconds
                )
                await self._regulate(subscription)
        finally:
            # When the channel closes the broker takes back what was not acknowledged.
            await subscription.close()
            self._give_up(lambda incoming: incoming.delivery.of_broker)
            self._held.clear()
        return 0

    def _receive(self, delivery: Delivery) -> None:
        try:
            refs = message.decode(delivery.body)
        except MalformedMessage as error:
            self._on_malformed(delivery, error.detail)
            return
        incoming = Incoming(delivery, refs)
        if self._types.on:
            self.unsorted.append(incoming)
            self._types.wake.set()
        else:
            self.deliveries.append(incoming)
            self._on_work()

    def unsort(self) -> None:
        """What waits was received before anybody looked at types."""
        self.unsorted.extendleft(reversed([each for each in self.deliveries if each.delivery.of_broker]))
        self.deliveries = deque(each for each in self.deliveries if not each.delivery.of_broker)

    def let_in(self, incoming: Incoming, *, parked: Collection[TaskRef]) -> None:
        """The first of the unsorted deliveries is sorted: the ``parked`` ones among its refs are done with here. One
        that went back to the broker meanwhile, with all its refs, is left to that."""
        if incoming.settled:
            return
        self.unsorted.popleft()
        incoming.refs = deque(ref for ref in incoming.refs if ref not in parked)
        if incoming.refs:
            self.deliveries.append(incoming)
            self._on_work()
        else:
            incoming.settle(0)

    async def _regulate(self, subscription: Subscription) -> None:
        now = asyncio.get_running_loop().time()
        # The oldest is the first or, behind one that was added, the second.
        waiting = chain(islice(self.deliveries, 2), islice(self.unsorted, 1))
        oldest = min((each.delivery.received_at for each in waiting), default=now)
        if self._regulated.is_set():
            self._regulated.clear()
            await self._obey(subscription)
        elif self.is_shut:
            self._wants_more.clear()
        elif now - oldest > self._hand_back_seconds:
            await self._hand_back(subscription, prefetch=max(1, self._prefetch // 4))
        elif self._wants_more.is_set() and self._paused:
            await self._start(subscription)
        elif self._wants_more.is_set() and now - self._grown_at > GROWTH_SECONDS:
            self._prefetch = min(self._prefetch * 2, self._full_prefetch)
            await self._restart(subscription)
        elif not self._paused and self._count_held() != self._held_on_top and now - self._grown_at > GROWTH_SECONDS:
            await self._restart(subscription)
        else:
            self._wants_more.clear()

    async def _obey(self, subscription: Subscription) -> None:
        """Do what ``bound`` said."""
        if self.is_shut:
            if not self._paused:
                await self._hand_back(subscription, prefetch=self._prefetch)
        elif self._paused:
            await self._start(subscription)
        elif self._receives != self._to_receive():
            await self._restart(subscription)

    def _to_receive(self) -> int:
        most = self._prefetch if self._most is None else min(self._prefetch, self._most)
        return min(most + self._held_on_top, LARGEST_PREFETCH)

    def _count_held(self) -> int:
        self._held = {incoming for incoming in self._held if incoming.lent and not incoming.settled}
        return min(len(self._held), MOST_HELD)

    async def _restart(self, subscription: Subscription) -> None:
        """Consume with another prefetch."""
        await subscription.pause()
        await self._start(subscription)

    async def _start(self, subscription: Subscription) -> None:
        self._wants_more.clear()
        self._paused = False
        self._grown_at = asyncio.get_running_loop().time()
        self._held_on_top = self._count_held()
        self._receives = self._to_receive()
        await subscription.consume(prefetch=self._receives)

    async def _hand_back(self, subscription: Subscription, *, prefetch: int) -> None:
        """Receive nothing until there is room, and ``prefetch`` then."""
        await subscription.pause()
        self._wants_more.clear()
        self._paused = True
        self._prefetch = prefetch
        # Deliveries that were on the way when the consumer stopped are in the buffer by now.
        old = asyncio.get_running_loop().time() - self._hand_back_seconds
        waiting = self._give_up(lambda each: each.delivery.of_broker or each.delivery.received_at < old)
        for incoming in waiting:
            await incoming.delivery.hand_back()
        if self._types.on:
            # The claimer may rest: nobody told it of what was unsorted. It lets a buffer receive again for free slots.
            self._on_work()
        log.debug("handed_back", work_queue=str(self.work_queue), messages=len(waiting), prefetch=self._prefetch)

    def _give_up(self, which: Callable[[Incoming], bool]) -> list[Incoming]:
        """Take these deliveries out of the buffer: they are not this worker's any more."""
        waiting = [incoming for incoming in (*self.deliveries, *self.unsorted) if which(incoming)]
        for incoming in waiting:
            incoming.settled = True
        self.deliveries = deque(incoming for incoming in self.deliveries if not incoming.settled)
        self.unsorted.clear()
        return waiting
