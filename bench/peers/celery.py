"""Celery on RabbitMQ. ``BENCH_RESULTS`` keeps results in Postgres, through its SQLAlchemy backend."""

import os
import time
from typing import Any, Final

from celery import Celery
from celery.signals import task_postrun

from bench.peers.order import SLEEP_SECONDS, Counter, Order

ORDER: Final = Order.read()
RESULTS: Final = "BENCH_RESULTS" in os.environ

app: Final = Celery(
    "bench",
    broker=ORDER.amqp_url,
    backend=ORDER.dsn.replace("postgresql://", "db+postgresql+psycopg2://", 1) if RESULTS else None,
)
app.conf.update(
    task_ignore_result=not RESULTS,
    worker_prefetch_multiplier=128,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    database_create_tables_at_setup=True,
)
counter: Final = Counter(ORDER)


@app.task(name="noop")
def noop() -> None:
    pass


@app.task(name="sleep")
def sleep() -> None:
    time.sleep(SLEEP_SECONDS)


@task_postrun.connect
def count(**_: Any) -> None:
    """After the result was stored."""
    counter.ran()


def enqueue() -> None:
    task = app.tasks[ORDER.task]
    with app.producer_pool.acquire(block=True) as producer:
        for _ in ORDER.batches(1):
            task.apply_async(producer=producer)


if __name__ == "__main__":
    enqueue()
