"""The peers on RabbitMQ and Redis: how each is started, and what a reader must know to compare its figures."""

from types import MappingProxyType
from typing import Final

from bench.peers.order import LATENCY, PRIORITY, SLOTS, Order
from bench.peers.peer import CORES, THROUGHPUT, Peer, Server, of_noop_tasks

_CELERY_SETTINGS: Final = (
    "worker_prefetch_multiplier=128, as its guide advises for many short tasks; no gossip, mingle, heartbeat; early "
    "acknowledgement, its default"
)
_CELERY_KEEPS: Final = (
    "The message, durable in a classic queue, unconfirmed unless asked; acknowledged before the task runs, so a crash "
    "loses it."
)


def _celery(*pool: str) -> list[str]:
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"]
    return ["celery", "-A", "bench.peers.celery:app", "worker", *pool, *quiet]


def _celery_without_results(order: Order) -> list[str]:
    return _celery("--pool=solo") if of_noop_tasks(order) else _celery("--pool=threads", f"--concurrency={SLOTS}")


def _celery_with_results(order: Order) -> list[str]:
    # Its backend opens a connection for each result unless the process was forked.
    slots = CORES if of_noop_tasks(order) or order.kind == LATENCY else SLOTS
    return _celery("--pool=prefork", f"--concurrency={slots}")


def _dramatiq(order: Order) -> list[str]:
    threads = 8 if of_noop_tasks(order) else SLOTS
    return ["dramatiq", "bench.peers.dramatiq", "--processes=1", f"--threads={threads}"]


def _taskiq(order: Order) -> list[str]:
    tasks = 500 if of_noop_tasks(order) else SLOTS
    limits = ["--workers=1", f"--max-async-tasks={tasks}", "--max-prefetch=500"]
    return ["taskiq", "worker", "bench.peers.taskiq:broker", *limits, "--log-level=WARNING"]


PEERS: Final = (
    Peer(
        name="bare aio-pika",
        packages=("aio-pika", "fastapi", "uvicorn"),
        module="bench.peers.bare_aio_pika",
        worker=lambda _: ["bench.peers.bare_aio_pika", "work"],
        settings="no task queue, but the least that FastAPI, RabbitMQ and a handler can do: aio-pika and uvloop, a "
        "transient message in a classic queue, published without confirms, consumed without acknowledgements",
        keeps="Nothing: a message is lost with the broker, the worker or the connection.",
        servers=(Server.RABBITMQ,),
        kinds=(LATENCY,),
    ),
    Peer(
        name="Celery",
        packages=("celery", "kombu", "amqp"),
        module="bench.peers.celery",
        worker=_celery_without_results,
        settings=f"pool solo for no-op tasks, {SLOTS} threads otherwise; task_ignore_result; {_CELERY_SETTINGS}. For "
        "priorities, as its guide on routing: x-max-priority=10, late acknowledgement, worker_prefetch_multiplier=1. "
        "Sent from FastAPI's threads, ten connections (its default)",
        keeps=f"{_CELERY_KEEPS} No task record, no result.",
        servers=(Server.RABBITMQ,),
        kinds=(*THROUGHPUT, LATENCY, PRIORITY),
    ),
    Peer(
        name="Celery, results in Postgres",
        packages=("celery", "sqlalchemy", "psycopg2-binary"),
        module="bench.peers.celery",
        worker=_celery_with_results,
        settings="pool prefork, since its backend keeps connections only there: a process per core (its default) for "
        f"no-op tasks and single ones, {SLOTS} for 10 ms ones; result backend db+postgresql; {_CELERY_SETTINGS}",
        unfinished="SELECT count(*) < $1 FROM celery_taskmeta WHERE status = 'SUCCESS'",
        forks=True,
        pace=0.2,
        keeps=f"{_CELERY_KEEPS} The result, a transaction each, once it has run; before that no task record.",
        servers=(Server.RABBITMQ, Server.POSTGRES),
        environment=MappingProxyType({"BENCH_RESULTS": "1"}),
    ),
    Peer(
        name="Dramatiq",
        packages=("dramatiq", "pika"),
        module="bench.peers.dramatiq",
        worker=_dramatiq,
        settings=f"one process, 8 threads (its default) for no-op tasks, {SLOTS} otherwise; default middleware. For "
        "priorities a queue and an actor's priority each for high and low tasks. Sent from FastAPI's threads, a "
        "connection each",
        keeps="The message, durable in a classic queue, unconfirmed unless asked; acknowledged after the task, so it "
        "runs at least once. No task record, no result.",
        servers=(Server.RABBITMQ,),
        kinds=(*THROUGHPUT, LATENCY, PRIORITY),
    ),
    Peer(
        name="taskiq-aio-pika",
        packages=("taskiq-aio-pika", "taskiq", "aio-pika"),
        module="bench.peers.taskiq",
        worker=_taskiq,
        settings=f"one process, qos=500, 500 more prefetched (defaults 10 and 0), 500 tasks at a time for no-op tasks, "
        f"{SLOTS} otherwise (default 100)",
        keeps="The message, durable in a quorum queue, confirmed; acknowledged after the task (when_saved), so it runs "
        "at least once. No task record, no result backend.",
        servers=(Server.RABBITMQ,),
    ),
    Peer(
        name="SAQ",
        packages=("saq", "redis", "hiredis"),
        module="bench.peers.saq",
        worker=lambda _: ["saq", "bench.peers.saq.settings"],
        settings=f"one process, concurrency={SLOTS} (default 10); hiredis; a redis-server of its own with its defaults",
        keeps="The job, and for ten minutes its result, in Redis's memory, which is written to disk by snapshots: a "
        "crash of Redis loses what came since the last one. A job whose worker died is given up by default.",
        servers=(Server.REDIS,),
    ),
)
