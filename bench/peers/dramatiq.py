"""Dramatiq on RabbitMQ.

High and low tasks have a queue and a priority each: a worker reads each queue, and takes what it has read in the order
of the actors' priorities, the lowest number first.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from bench.peers.order import LOW_SECONDS, SLEEP_SECONDS, Counter, Order
from bench.peers.starts import Starts

ORDER: Final = Order.read()
broker: Final = RabbitmqBroker(url=ORDER.amqp_url)
dramatiq.set_broker(broker)
counter: Final = Counter(ORDER)
starts: Final = Starts(ORDER.starts)
lows: Final = Starts(ORDER.lows)


@dramatiq.actor
def noop() -> None:
    counter.ran()


@dramatiq.actor
def sleep() -> None:
    time.sleep(SLEEP_SECONDS)
    counter.ran()


@dramatiq.actor(queue_name="high", priority=0)
def stamped(sent_at: float) -> None:
    starts.add(sent_at)


@dramatiq.actor(queue_name="low", priority=100)
def low() -> None:
    lows.add(0)
    time.sleep(LOW_SECONDS)  # the work of a low task, which takes up a slot


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    """It connects by itself, once for each thread that sends."""
    yield


def submit(sent_at: float) -> None:
    stamped.send(sent_at)


def enqueue() -> None:
    actor = {"noop": noop, "sleep": sleep, "low": low}[ORDER.task]
    for _ in ORDER.batches(1):
        actor.send()


if __name__ == "__main__":
    enqueue()
