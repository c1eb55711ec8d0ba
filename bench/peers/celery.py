"""Celery on RabbitMQ. ``BENCH_RESULTS`` keeps results in Postgres, through its SQLAlchemy backend.

For priorities it has what its guide on routing wants: a queue with ``x-max-priority``, one task prefetched for each
slot, and late acknowledgement, since a message that was acknowledged early makes room for another one.
"""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from celery import Celery
from celery.signals import task_postrun

from bench.peers.order import LOW_SECONDS, PRIORITY, SLEEP_SECONDS, Counter, Order
from bench.peers.starts import Starts

ORDER: Final = Order.read()
RESULTS: Final = "BENCH_RESULTS" in os.environ
HIGHEST: Final = 10
"""Of the priorities, as in its guide; higher numbers go first."""


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
if ORDER.kind == PRIORITY:
    app.conf.update(
        task_queue_max_priority=HIGHEST,
        task_default_priority=0,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
    )
counter: Final = Counter(ORDER)
starts: Final = Starts(ORDER.starts)
lows: Final = Starts(ORDER.lows)


@app.task(name="noop")
def noop() -> None:
    pass


@app.task(name="sleep")
def sleep() -> None:
    time.sleep(SLEEP_SECONDS)


@app.task(name="stamped")
def stamped(sent_at: float) -> None:
    starts.add(sent_at)


@app.task(name="low")
def low() -> None:
    lows.add(0)
    time.sleep(LOW_SECONDS)  # the work of a low task, which takes up a slot


@task_postrun.connect
def count(**_: Any) -> None:
    """After the result was stored."""
    counter.ran()


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    """It connects by itself, with a pool of ten connections, its default."""
    yield


def submit(sent_at: float) -> None:
    stamped.apply_async((sent_at,), priority=HIGHEST)


def enqueue() -> None:
    task = app.tasks[ORDER.task]
    with app.producer_pool.acquire(block=True) as producer:
        for _ in ORDER.batches(1):
            task.apply_async(producer=producer)


if __name__ == "__main__":
    enqueue()
