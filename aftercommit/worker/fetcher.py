"""All lanes of a worker, and which ring is next."""

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence

from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.consumer import Delivery
from aftercommit.core.queues import WorkQueue
from aftercommit.core.task_ref import TaskRef
from aftercommit.runtime.poll import poll
from aftercommit.worker.prefetch_buffer import Incoming, PrefetchBuffer
from aftercommit.worker.queue_picker import QueuePicker

Offer = tuple[Incoming, TaskRef]


class Fetcher:
    """``work`` is set whenever a lane got something."""

    def __init__(
        self,
        connection: BrokerConnection,
        *,
        shares: Mapping[WorkQueue, int | None],
        prefetch: int,
        hand_back_seconds: float,
        work: asyncio.Event,
        on_malformed: Callable[[Delivery, str], None],
    ) -> None:
        self._connection = connection
        self._picker = QueuePicker(shares)
        self._lanes = {
            work_queue: PrefetchBuffer(
                connection,
                work_queue,
                prefetch=prefetch,
                hand_back_seconds=hand_back_seconds,
                on_work=work.set,
                on_malformed=on_malformed,
            )
            for work_queue in shares
        }

    def take(self, slots: int) -> list[Offer]:
        """Up to ``slots`` (at least one) free slots' worth of refs, by turns."""
        offers: list[Offer] = []
        candidates = {work_queue for work_queue, lane in self._lanes.items() if lane.buffer}
        while len(offers) < slots and candidates:
            lane = self._lanes[self._picker.next(candidates)]
            offers.append(lane.take())
            if len(candidates) == 1 or not self._picker.weighted:
                # Nobody else has a turn before this lane runs dry.
                while lane.buffer and len(offers) < slots:
                    offers.append(lane.take())
            if not lane.buffer:
                candidates.discard(lane.work_queue)
        # In strict order a later lane that had to hand back waits until the earlier ones leave a slot free.
        if len(offers) < slots or self._picker.weighted:
            for lane in self._lanes.values():
                lane.feed()
        return offers

    def put_back(self, offers: Sequence[Offer]) -> None:
        """Undo a ``take``: the refs wait for their turn again, in their order."""
        for incoming, ring in reversed(offers):
            self._lanes[incoming.delivery.work_queue].put_back(incoming, ring)

    @property
    def buffered(self) -> int:
        """Messages that wait in this worker."""
        return sum(len(lane.buffer) for lane in self._lanes.values())

    async def run(self, stopping: asyncio.Event) -> None:
        """Consume every lane, each on its own channel, until ``stopping``."""
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes.values():
                tick = functools.partial(lane.consume, stopping)
                group.create_task(poll(f"consume {lane.work_queue}", tick, stopping=stopping))

    async def close(self) -> None:
        await self._connection.close()
