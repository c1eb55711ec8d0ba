"""The deliveries of one work queue in this worker: taken in, lent out ring by ring, handed back when they wait.

What is unacknowledged here is the back-pressure on the broker. It must not become a trap: deliveries that this worker
cannot start within ``hand_back_seconds`` go back, so that an idle worker gets them, and the lane consumes again when
a slot is free. How much it may hold follows what it managed: a quarter after each hand-back, twice as much whenever
it ran dry while slots were free.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from aftercommit.broker import message
from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.consumer import Delivery, Subscription
from aftercommit.core.errors import MalformedMessage
from aftercommit.core.queues import WorkQueue
from aftercommit.core.task_ref import TaskRef
from aftercommit.runtime.poll import first_of

log = structlog.get_logger(__name__)

CHECKS_PER_HAND_BACK: Final = 6
GROWTH_SECONDS: Final = 1.0


class Incoming:
    """A delivery: ``refs`` of it wait for their turn, ``lent`` more are being claimed."""

    __slots__ = ("delivery", "lent", "refs", "settled")

    def __init__(self, delivery: Delivery, refs: list[TaskRef]) -> None:
        self.delivery = delivery
        self.refs = deque(refs)
        self.lent = 0
        self.settled = False

    def settle(self, refs: int) -> None:
        """So many of the lent refs are claimed or known to be stale; with the last one acknowledge."""
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
    ) -> None:
        self.work_queue = work_queue
        self.buffer: deque[Incoming] = deque()
        self._connection = connection
        self._full_prefetch = self._prefetch = prefetch
        self._hand_back_seconds = hand_back_seconds
        self._on_work = on_work
        self._on_malformed = on_malformed
        self._hungry = asyncio.Event()
        self._paused = False
        self._grown_at = 0.0

    def feed(self) -> None:
        """A slot came free: a paused lane consumes again, one that ran dry may hold more."""
        if self._paused or (not self.buffer and self._prefetch < self._full_prefetch):
            self._hungry.set()

    def take(self) -> tuple[Incoming, TaskRef]:
        """The next ring. Only for a lane with work."""
        incoming = self.buffer[0]
        ring = incoming.refs.popleft()
        incoming.lent += 1
        if not incoming.refs:
            self.buffer.popleft()
        return incoming, ring

    def put_back(self, incoming: Incoming, ring: TaskRef) -> None:
        """Undo a ``take``. A delivery that went back to the broker meanwhile took all its refs along."""
        incoming.lent -= 1
        if incoming.settled:
            return
        if not incoming.refs:
            self.buffer.appendleft(incoming)
        incoming.refs.appendleft(ring)

    async def consume(self, stopping: asyncio.Event) -> float:
        """Consume until ``stopping`` or until the channel is lost. Raises BrokerUnavailable."""
        subscription = Subscription(self._connection, self.work_queue, on_delivery=self._take_in)
        try:
            await subscription.open()
            await self._start(subscription)
            while not (stopping.is_set() or subscription.lost.is_set()):
                check_seconds = self._hand_back_seconds / CHECKS_PER_HAND_BACK
                await first_of(stopping, subscription.lost, self._hungry, timeout_seconds=check_seconds)
                await self._regulate(subscription)
        finally:
            # With the channel the broker takes back whatever was not acknowledged.
            await subscription.close()
            self._forget()
        return 0

    def _take_in(self, delivery: Delivery) -> None:
        try:
            refs = message.decode(delivery.body)
        except MalformedMessage as error:
            self._on_malformed(delivery, error.detail)
            return
        self.buffer.append(Incoming(delivery, refs))
        self._on_work()

    async def _regulate(self, subscription: Subscription) -> None:
        now = asyncio.get_running_loop().time()
        if self.buffer and now - self.buffer[0].delivery.received_at > self._hand_back_seconds:
            await self._hand_back(subscription)
        elif self._hungry.is_set() and self._paused:
            await self._start(subscription)
        elif self._hungry.is_set() and now - self._grown_at > GROWTH_SECONDS:
            self._prefetch = min(self._prefetch * 2, self._full_prefetch)
            await subscription.pause()
            await self._start(subscription)
        else:
            self._hungry.clear()

    async def _start(self, subscription: Subscription) -> None:
        self._hungry.clear()
        self._paused = False
        self._grown_at = asyncio.get_running_loop().time()
        await subscription.consume(prefetch=self._prefetch)

    async def _hand_back(self, subscription: Subscription) -> None:
        await subscription.pause()
        self._hungry.clear()
        self._paused = True
        self._prefetch = max(1, self._prefetch // 4)
        # Deliveries that were on the way when the consumer stopped are in the buffer by now.
        waiting = self._forget()
        for incoming in waiting:
            await incoming.delivery.hand_back()
        log.debug("handed_back", work_queue=str(self.work_queue), messages=len(waiting), prefetch=self._prefetch)

    def _forget(self) -> list[Incoming]:
        waiting = list(self.buffer)
        self.buffer.clear()
        for incoming in waiting:
            incoming.settled = True
        return waiting
