"""Which peers there are, how each is started, and what a reader must know to compare its figure with ours."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from bench.peers.order import SLEEP, SLOTS

Command = Callable[[str], list[str]]
"""From the kind of task to what follows ``python -m``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """``packages``: the first is the peer itself, the others are stated with it. ``settings`` tells what differs from
    its defaults and why, ``keeps`` what survives. ``unfinished`` asks its tables, where it has any, whether something
    of so many tasks ($1) is left; ``forks``: several processes run the tasks, so none of them counts all. ``pace``: it
    gets so many times the tasks of the others, so that each takes seconds."""

    name: str
    packages: tuple[str, ...]
    module: str
    worker: Command
    settings: str
    keeps: str
    unfinished: str | None = None
    forks: bool = False
    pace: float = 1
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


CORES: Final = os.cpu_count() or 1

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


def _celery_without_results(kind: str) -> list[str]:
    return _celery("--pool=solo") if kind != SLEEP else _celery("--pool=threads", f"--concurrency={SLOTS}")


def _celery_with_results(kind: str) -> list[str]:
    # Its backend opens a connection for each result unless the process was forked.
    return _celery("--pool=prefork", f"--concurrency={CORES if kind != SLEEP else SLOTS}")


def _dramatiq(kind: str) -> list[str]:
    threads = 8 if kind != SLEEP else SLOTS
    return ["dramatiq", "bench.peers.dramatiq", "--processes=1", f"--threads={threads}"]


def _taskiq(kind: str) -> list[str]:
    tasks = 500 if kind != SLEEP else SLOTS
    limits = ["--workers=1", f"--max-async-tasks={tasks}", "--max-prefetch=500"]
    return ["taskiq", "worker", "bench.peers.taskiq:broker", *limits, "--log-level=WARNING"]


PEERS: Final = (
    Peer(
        name="Celery",
        packages=("celery", "kombu", "amqp"),
        module="bench.peers.celery",
        worker=_celery_without_results,
        settings=f"pool solo for no-op tasks, {SLOTS} threads for 10 ms ones; task_ignore_result; {_CELERY_SETTINGS}",
        keeps=f"{_CELERY_KEEPS} No task record, no result.",
    ),
    Peer(
        name="Celery, results in Postgres",
        packages=("celery", "sqlalchemy", "psycopg2-binary"),
        module="bench.peers.celery",
        worker=_celery_with_results,
        settings=f"pool prefork, a process per core for no-op tasks (its default), {SLOTS} for 10 ms ones, since its "
        f"backend keeps connections only there; result backend db+postgresql; {_CELERY_SETTINGS}",
        unfinished="SELECT count(*) < $1 FROM celery_taskmeta WHERE status = 'SUCCESS'",
        forks=True,
        pace=0.2,
        keeps=f"{_CELERY_KEEPS} The result, a transaction each, once it has run; before that no task record.",
        environment=MappingProxyType({"BENCH_RESULTS": "1"}),
    ),
    Peer(
        name="Dramatiq",
        packages=("dramatiq", "pika"),
        module="bench.peers.dramatiq",
        worker=_dramatiq,
        settings=f"one process, 8 threads (its default) for no-op tasks, {SLOTS} for 10 ms ones; default middleware",
        keeps="The message, durable in a classic queue, unconfirmed unless asked; acknowledged after the task, so it "
        "runs at least once. No task record, no result.",
    ),
    Peer(
        name="taskiq-aio-pika",
        packages=("taskiq-aio-pika", "taskiq", "aio-pika"),
        module="bench.peers.taskiq",
        worker=_taskiq,
        settings=f"one process, qos=500, 500 more prefetched (defaults 10 and 0), 500 tasks at a time for no-op tasks, "
        f"{SLOTS} for 10 ms ones (default 100)",
        keeps="The message, durable in a quorum queue, confirmed; acknowledged after the task (when_saved), so it runs "
        "at least once. No task record, no result backend.",
    ),
    Peer(
        name="Procrastinate",
        packages=("procrastinate", "psycopg"),
        module="bench.peers.procrastinate",
        worker=lambda _: [
            "procrastinate",
            "--app=bench.peers.procrastinate.app",
            "--log-level=warning",
            "worker",
            f"--concurrency={SLOTS}",
        ],
        settings=f"one process, concurrency={SLOTS} (default 1), pool of 20 connections; finished jobs kept, its "
        "default",
        keeps="The job, its state and its events in Postgres, as durable as ours; no result value. No broker.",
        pace=0.2,
        unfinished="SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing')) AND $1 > 0",
    ),
    Peer(
        name="pgqueuer",
        packages=("pgqueuer", "asyncpg", "uvloop"),
        module="bench.peers.pgqueuer",
        worker=lambda _: ["bench.peers.pgqueuer", "work"],
        settings="one process, asyncpg and uvloop as in its own benchmark; batch_size=1000 (default 10) and any number "
        f"of tasks at a time for no-op tasks, {SLOTS} at a time in batches of {SLOTS // 2} for 10 ms ones",
        keeps="The job in Postgres until it has run, then a line in its log table, written in batches; no result "
        "value. No broker.",
        pace=4,
        unfinished="SELECT EXISTS (SELECT FROM pgqueuer) AND $1 > 0",
    ),
)
