"""The prefetch buffers of a worker, one for each of its work queues, and which of them is served next."""

import asyncio
import functools
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence

from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.consumer import Delivery
from aftercommit.core.queues import WorkQueue
from aftercommit.core.task_ref import TaskRef
from aftercommit.runtime.poll import poll
from aftercommit.worker.prefetch_buffer import Incoming, PrefetchBuffer
from aftercommit.worker.queue_picker import QueuePicker
from aftercommit.worker.type_filter import TypeFilter

Offer = tuple[Incoming, TaskRef]
"""A ref to claim, and the delivery that it came with."""


class Fetcher:
    """``on_work`` is called whenever a buffer got something."""

    def __init__(
        self,
        connection: BrokerConnection,
        *,
        shares: Mapping[WorkQueue, int | None],
        prefetch: int,
        hand_back_seconds: float,
        on_work: Callable[[], None],
        on_malformed: Callable[[Delivery, str], None],
        types: TypeFilter,
    ) -> None:
        self._connection = connection
        self._picker = QueuePicker(shares)
        self._buffers = {
            work_queue: PrefetchBuffer(
                connection,
                work_queue,
                prefetch=prefetch,
                hand_back_seconds=hand_back_seconds,
                on_work=on_work,
                on_malformed=on_malformed,
                types=types,
            )
            for work_queue in shares
        }

    def take(self, slots: int) -> list[Offer]:
        """Up to ``slots`` refs, from the work queues in their order or by their weights."""
        offers: list[Offer] = []
        candidates = {work_queue for work_queue, buffer in self._buffers.items() if buffer.deliveries}
        while len(offers) < slots and candidates:
            buffer = self._buffers[self._picker.next(candidates)]
            offers.append(buffer.take())
            if len(candidates) == 1 or not self._picker.weighted:
                # No other queue has a turn before this one is empty.
                while buffer.deliveries and len(offers) < slots:
                    offers.append(buffer.take())
            if not buffer.deliveries:
                candidates.discard(buffer.work_queue)
        return offers

    def add(self, incoming: Incoming) -> None:
        """Let refs in that did not come through the broker."""
        self._buffers[incoming.delivery.work_queue].add(incoming)

    def refill(self, *, free_slots: int) -> None:
        """Let the buffers receive more, after a ``take`` that left so many slots free.

        In strict order a later work queue that had to hand back waits until the earlier ones leave a slot free.
        """
        if free_slots or self._picker.weighted:
            for buffer in self._buffers.values():
                buffer.refill()

    def put_back(self, offers: Sequence[Offer]) -> None:
        """Undo a ``take``: the refs wait for their turn again, in their order."""
        for incoming, ref in reversed(offers):
            self._buffers[incoming.delivery.work_queue].put_back(incoming, ref)

    def hold(self, offer: Offer) -> None:
        """The row of a ref that was taken is locked, and not only for a moment."""
        incoming, _ = offer
        self._buffers[incoming.delivery.work_queue].hold(incoming)

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
        self._buffers[incoming.delivery.work_queue].let_in(incoming, parked=parked)

    @property
    def buffered(self) -> int:
        """Messages that wait in this worker."""
        return sum(len(buffer.deliveries) for buffer in self._buffers.values())

    async def run(self, stopping: asyncio.Event) -> None:
        """Consume every work queue, each on its own channel, until ``stopping``."""
        async with asyncio.TaskGroup() as group:
            for buffer in self._buffers.values():
                tick = functools.partial(buffer.consume, stopping)
                group.create_task(poll(f"consume {buffer.work_queue}", tick, stopping=stopping))

    async def close(self) -> None:
        await self._connection.close()
