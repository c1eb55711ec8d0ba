"""Which refs a worker takes next, and when its buffers receive more."""

import asyncio
from uuid import UUID

import pytest

from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.consumer import Delivery
from aftercommit.core.queues import Priority, WorkQueue, WorkQueuePattern
from aftercommit.core.task_ref import TaskRef
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.worker.fetcher import Fetcher, Offer
from aftercommit.worker.prefetch_buffer import Incoming
from aftercommit.worker.type_filter import TypeFilter
from tests.factories import never_malformed

HIGH, MEDIUM, LOW = (WorkQueue("tasks", priority) for priority in Priority)


class Acknowledged(Delivery):
    """A delivery without a broker: counts how often it was acknowledged."""

    def __init__(self, work_queue: WorkQueue) -> None:
        super().__init__(None, 1, body=b"", work_queue=work_queue, received_at=0.0)  # type: ignore[arg-type]  # no broker
        self.times = 0

    def acknowledge(self) -> None:
        self.times += 1


def a_delivery(work_queue: WorkQueue, *numbers: int) -> Incoming:
    return Incoming(Acknowledged(work_queue), [TaskRef(UUID(int=number), 1) for number in numbers])


def a_fetcher(shares: dict[WorkQueue, int | None], *deliveries: Incoming) -> Fetcher:
    connection = BrokerConnection("amqp://localhost/", name="test")
    queues = KnownQueues(["tasks"])
    queues.is_read = True
    fetcher = Fetcher(
        connection,
        shares=[(WorkQueuePattern(each.queue, each.priority), weight) for each, weight in shares.items()],
        queues=queues,
        prefetch=100,
        hand_back_seconds=3,
        on_work=asyncio.Event().set,
        on_malformed=never_malformed,
        types=TypeFilter([]),
    )
    for incoming in deliveries:
        fetcher._buffers[incoming.delivery.work_queue].deliveries.append(incoming)
    return fetcher


STRICT: dict[WorkQueue, int | None] = {HIGH: None, MEDIUM: None, LOW: None}


def numbers(offers: list[Offer]) -> list[int]:
    return [ref.task_id.int for _, ref in offers]


async def test_strict_order_empties_a_queue_before_the_next() -> None:
    fetcher = a_fetcher(STRICT, a_delivery(LOW, 5, 6), a_delivery(HIGH, 1, 2), a_delivery(HIGH, 3))
    assert numbers(fetcher.take(2)) == [1, 2]
    assert fetcher.buffered == 2
    assert numbers(fetcher.take(10)) == [3, 5, 6]
    assert fetcher.take(10) == []


async def test_weights_share_the_slots() -> None:
    shares: dict[WorkQueue, int | None] = {HIGH: 3, LOW: 1}
    fetcher = a_fetcher(shares, a_delivery(HIGH, *range(100)), a_delivery(LOW, *range(100, 200)))
    assert sum(number >= 100 for number in numbers(fetcher.take(40))) == 10


async def test_refs_that_are_put_back_wait_in_their_order() -> None:
    fetcher = a_fetcher(STRICT, a_delivery(HIGH, 1, 2), a_delivery(HIGH, 3), a_delivery(LOW, 4))
    offers = fetcher.take(3)
    fetcher.put_back(offers)
    assert numbers(fetcher.take(4)) == [1, 2, 3, 4]


async def test_delivery_is_acknowledged_once_its_last_ref_is_settled() -> None:
    incoming = a_delivery(HIGH, 1, 2, 3)
    fetcher = a_fetcher(STRICT, incoming)
    fetcher.take(2)
    incoming.settle(2)
    assert incoming.delivery.times == 0  # type: ignore[attr-defined]  # of the class above
    fetcher.take(1)
    incoming.settle(1)
    assert incoming.delivery.times == 1  # type: ignore[attr-defined]  # of the class above


async def test_refs_of_a_delivery_that_went_back_are_not_put_back() -> None:
    incoming = a_delivery(HIGH, 1, 2)
    fetcher = a_fetcher(STRICT, incoming)
    offers = fetcher.take(1)
    fetcher._buffers[HIGH]._give_up(lambda _: True)
    fetcher.put_back(offers)
    assert (fetcher.take(5), fetcher.buffered) == ([], 0)
    incoming.settle(1)
    assert incoming.delivery.times == 0  # type: ignore[attr-defined]  # of the class above


@pytest.mark.parametrize(
    ("shares", "free_slots", "receives"),
    [(STRICT, 0, False), (STRICT, 1, True), ({HIGH: 3, LOW: 1}, 0, True)],
)
async def test_paused_buffer_receives_again_when_slots_are_free_or_shared_by_weight(
    shares: dict[WorkQueue, int | None], free_slots: int, receives: bool
) -> None:
    fetcher = a_fetcher(shares)
    buffer = fetcher._buffers[LOW]
    buffer._paused = True
    fetcher.take(1)
    assert not buffer._wants_more.is_set()
    fetcher.refill(free_slots=free_slots)
    assert buffer._wants_more.is_set() is receives


async def test_parked_tasks_go_behind_the_first_message_only() -> None:
    fetcher = a_fetcher(STRICT, a_delivery(HIGH, 1), a_delivery(HIGH, 2))
    fetcher.add(a_delivery(HIGH, 8, 9))
    assert numbers(fetcher.take(9)) == [1, 8, 9, 2]


async def test_sorted_messages_lose_what_is_parked_and_are_done_with_when_nothing_is_left() -> None:
    first, second = a_delivery(HIGH, 1, 2), a_delivery(HIGH, 3)
    fetcher = a_fetcher(STRICT, first, second)
    fetcher.unsort()
    assert fetcher.take(9) == []
    assert fetcher.unsorted(2) == [first]
    for incoming in fetcher.unsorted(1_000):
        fetcher.let_in(incoming, parked={TaskRef(UUID(int=1), 1), TaskRef(UUID(int=3), 1)})
    assert (numbers(fetcher.take(9)), fetcher.unsorted(9)) == ([2], [])
    assert second.delivery.times == 1  # type: ignore[attr-defined]  # of the class above


async def test_message_that_went_back_while_it_was_sorted_is_left_to_the_broker() -> None:
    incoming = a_delivery(HIGH, 1)
    fetcher = a_fetcher(STRICT, incoming)
    fetcher.unsort()
    fetcher._buffers[HIGH]._give_up(lambda _: True)
    fetcher.let_in(incoming, parked=set())
    assert (fetcher.take(9), incoming.delivery.times) == ([], 0)  # type: ignore[attr-defined]  # of the class above
