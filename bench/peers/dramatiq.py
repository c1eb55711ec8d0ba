"""Dramatiq on RabbitMQ."""

import time
from typing import Final

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from bench.peers.order import SLEEP_SECONDS, Counter, Order

ORDER: Final = Order.read()
broker: Final = RabbitmqBroker(url=ORDER.amqp_url)
dramatiq.set_broker(broker)
counter: Final = Counter(ORDER)


@dramatiq.actor
def noop() -> None:
    counter.ran()


@dramatiq.actor
def sleep() -> None:
    time.sleep(SLEEP_SECONDS)
    counter.ran()


def enqueue() -> None:
    actor = {"noop": noop, "sleep": sleep}[ORDER.task]
    for _ in ORDER.batches(1):
        actor.send()


if __name__ == "__main__":
    enqueue()
