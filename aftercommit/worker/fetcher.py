"""The prefetch buffers of a worker, one for each of its work queues, and which of them is served next."""

import asyncio
import functools
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import structlog

from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.consumer import Delivery
from aftercommit.core.queues import WorkQueue, WorkQueuePattern
from aftercommit.core.task_ref import TaskRef
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.runtime.poll import first_of, poll
from aftercommit.worker.prefetch_buffer import Incoming, PrefetchBuffer
from aftercommit.worker.turns import Turns
from aftercommit.worker.type_filter import TypeFilter

log = structlog.get_logger(__name__)

Offer = tuple[Incoming, TaskRef]
"""A ref to claim, and the delivery that it came with."""

NO_LIMITS: Final[Mapping[str, int]] = MappingProxyType({})


class Fetcher:
    """``on_work`` is called whenever a buffer got something, or may be taken from again.

    It consumes the work queues that ``shares`` names, of those that ``queues`` has at the moment.
    """

    def __init__(
        self,
        connection: BrokerConnection,
        *,
        shares: Sequence[tuple[WorkQueuePattern, int | None]],
        queues: KnownQueues,
        prefetch: int,
        hand_back_seconds: float,
        on_work: Callable[[], None],
        on_malformed: Callable[[Delivery, str], None],
        types: TypeFilter,
    ) -> None:
        self._connection = connection
        self._queues = queues
        self._turns = Turns(shares)
        self._prefetch = prefetch
        self._hand_back_seconds = hand_back_seconds
        self._on_work = on_work
        self._on_malformed = on_malformed
        self._types = types
        self._buffers: dict[WorkQueue, PrefetchBuffer] = {}
        self._retired: dict[WorkQueue, asyncio.Event] = {}
        self.served: frozenset[str] = frozenset()
        """The queues of which it consumes a work queue."""

        self._bounds: Mapping[str, int] = NO_LIMITS
        self._missing: set[WorkQueuePattern] = set()
        self._changed = asyncio.Event()
        queues.follow(self._changed)
        self._arrange()

    def take(self, slots: int, rooms: Mapping[str, int] = NO_LIMITS) -> list[Offer]:
        """Up to ``slots`` refs, from the work queues in their order or by their weights. ``rooms``: how many of a
        queue, where it has a limit."""
        offers: list[Offer] = []
        left = dict(rooms)
        candidates = {
            work_queue
            for work_queue, buffer in self._buffers.items()
            if buffer.deliveries and not buffer.is_shut and left.get(work_queue.queue, 1) > 0
        }
        while len(offers) < slots and candidates:
            buffer = self._buffers[self._turns.next(candidates)]
            name = buffer.work_queue.queue
            # No other queue has a turn before this one is empty.
            alone = len(candidates) == 1 or self._turns.is_alone(buffer.work_queue)
            most = min(slots - len(offers) if alone else 1, left.get(name, slots))
            taken = 0
            while taken < most and buffer.deliveries:
                offers.append(buffer.take())
                taken += 1
            if not buffer.deliveries:
                candidates.discard(buffer.work_queue)
            if name in left:
                left[name] -= taken
                if not left[name]:
                    candidates -= {each for each in candidates if each.queue == name}
        return offers

    def add(self, incoming: Incoming) -> None:
        """Let refs in that did not come through the broker."""
        if (buffer := self._buffers.get(incoming.delivery.work_queue)) is not None:
            buffer.add(incoming)

    @property
    def open_work_queues(self) -> list[WorkQueue]:
        """Those that are served now."""
        return [work_queue for work_queue, buffer in self._buffers.items() if not buffer.is_shut]

    def is_shut(self, work_queue: WorkQueue) -> bool:
        """Whether nothing of it may start now."""
        buffer = self._buffers.get(work_queue)
        return buffer is None or buffer.is_shut

    def bound(self, bounds: Mapping[str, int]) -> None:
        """Let the buffers of these queues hold at most so many deliveries each: their limits let no more start soon."""
        self._bounds = bounds
        self._regulate()
        self._on_work()

    def refill(self, *, free_slots: int, rooms: Mapping[str, int] = NO_LIMITS) -> None:
        """Let the buffers receive more, after a ``take`` that left so many slots free.

        In strict order a later work queue that had to hand back waits until the earlier ones leave a slot free. One
        whose limit leaves no room waits for that.
        """
        if free_slots or self._turns.are_shared:
            for work_queue, buffer in self._buffers.items():
                if rooms.get(work_queue.queue, 1) > 0:
                    buffer.refill()

    def put_back(self, offers: Sequence[Offer]) -> None:
        """Undo a ``take``: the refs wait for their turn again, in their order."""
        for incoming, ref in reversed(offers):
            # Of a queue that is gone RabbitMQ has its messages back.
            if (buffer := self._buffers.get(incoming.delivery.work_queue)) is not None:
                buffer.put_back(incoming, ref)

    def hold(self, offer: Offer) -> None:
        """The row of a ref that was taken is locked, and not only for a moment."""
        incoming, _ = offer
        if (buffer := self._buffers.get(incoming.delivery.work_queue)) is not None:
            buffer.hold(incoming)

    def waiting(self, queue: str) -> int:
        """Messages of a queue that wait in this worker; a buffer that rests, since it had to hand back, counts as one:
        there may be more."""
        return sum(
            len(buffer.deliveries) or int(buffer.rests) for each, buffer in self._buffers.items() if each.queue == queue
        )

    def unsort(self) -> None:
        """Let nothing be claimed that was received before anybody looked at types."""
        for buffer in self._buffers.values():
            buffer.unsort()

    def unsorted(self, most: int) -> list[Incoming]:
        """Deliveries that are to be sorted, with about ``most`` refs; each is to be given to ``let_in``."""
        found: list[Incoming] = []
        for incoming in itertools.chain.from_iterable(buffer.unsorted for buffer in self._buffers.values()):
            found.append(incoming)
            most -= len(incoming.refs)
            if most <= 0:
                break
        return found

    def let_in(self, incoming: Incoming, *, parked: Collection[TaskRef]) -> None:
        """A delivery is sorted: the ``parked`` ones among its refs are done with here."""
        if (buffer := self._buffers.get(incoming.delivery.work_queue)) is not None:
            buffer.let_in(incoming, parked=parked)

    @property
    def buffered(self) -> int:
        """Messages that wait in this worker."""
        return sum(len(buffer.deliveries) for buffer in self._buffers.values())

    async def run(self, stopping: asyncio.Event) -> None:
        """Consume every work queue, each on its own channel, until ``stopping``; follow what queues there are."""
        async with asyncio.TaskGroup() as group:
            while not stopping.is_set():
                self._changed.clear()
                self._arrange()
                for work_queue, buffer in self._buffers.items():
                    if work_queue not in self._retired:
                        retired = self._retired[work_queue] = asyncio.Event()
                        tick = functools.partial(buffer.consume, retired)
                        group.create_task(poll(f"consume {work_queue}", tick, stopping=retired))
                self._on_work()
                await first_of(stopping, self._changed)
            for retired in self._retired.values():
                retired.set()

    def _arrange(self) -> None:
        """Have a buffer for each work queue that is served, and none for others."""
        served = self._turns.arrange(self._queues.by_name) if self._queues.is_read else ()
        for gone in self._buffers.keys() - set(served):
            del self._buffers[gone]
            if (retired := self._retired.pop(gone, None)) is not None:
                retired.set()
        self._buffers = {each: self._buffers.get(each) or self._open(each) for each in served}
        self.served = frozenset(each.queue for each in served)
        self._regulate()
        missing = set(self._turns.missing()) if self._queues.is_read else set()
        for pattern in missing - self._missing:
            log.warning("no_such_queue", worker_queues=str(pattern))
        self._missing = missing

    def _open(self, work_queue: WorkQueue) -> PrefetchBuffer:
        return PrefetchBuffer(
            self._connection,
            work_queue,
            prefetch=self._prefetch,
            hand_back_seconds=self._hand_back_seconds,
            on_work=self._on_work,
            on_malformed=self._on_malformed,
            types=self._types,
        )

    def _regulate(self) -> None:
        for work_queue, buffer in self._buffers.items():
            options = self._queues.by_name.get(work_queue.queue)
            closed = options is None or options.paused or options.deleting
            buffer.bound(0 if closed else self._bounds.get(work_queue.queue))

    async def close(self) -> None:
        await self._connection.close()
