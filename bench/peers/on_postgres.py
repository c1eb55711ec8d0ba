"""The peers that are queues in Postgres: how each is started, and what a reader must know to compare its figures."""

from typing import Final

from bench.peers.order import SLOTS, Order
from bench.peers.peer import Peer, Server, of_noop_tasks

_OBAN_LIMIT: Final = 500


def _oban(order: Order) -> list[str]:
    limit = _OBAN_LIMIT if of_noop_tasks(order) else SLOTS
    where = ["--dsn", order.dsn, "--queues", f"default:{limit}", "--cron-modules", "bench.peers.oban"]
    return ["oban", "start", *where, "--log-level", "WARNING"]


def _procrastinate(_: Order) -> list[str]:
    app = ["--app=bench.peers.procrastinate.app", "--log-level=warning"]
    return ["procrastinate", *app, "worker", f"--concurrency={SLOTS}"]


PEERS: Final = (
    Peer(
        name="Procrastinate",
        packages=("procrastinate", "psycopg"),
        module="bench.peers.procrastinate",
        worker=_procrastinate,
        settings=f"one process, concurrency={SLOTS} (default 1), pool of 20 connections; finished jobs kept, its "
        "default",
        keeps="The job, its state and its events in Postgres, as durable as ours; no result value. No broker.",
        servers=(Server.POSTGRES,),
        pace=0.2,
        unfinished="SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing')) AND $1 > 0",
    ),
    Peer(
        name="pgqueuer",
        packages=("pgqueuer", "asyncpg", "uvloop"),
        module="bench.peers.pgqueuer",
        worker=lambda _: ["bench.peers.pgqueuer", "work"],
        settings="one process, asyncpg and uvloop as in its own benchmark; batch_size=1000 (default 10) and any number "
        f"of tasks at a time for no-op tasks, {SLOTS} at a time in batches of {SLOTS // 2} for 10 ms ones, its "
        "defaults (10, and any number of tasks at a time) for single ones; enqueued through a pool of ten connections",
        keeps="The job in Postgres until it has run, then a line in its log table, written in batches; no result "
        "value. No broker.",
        servers=(Server.POSTGRES,),
        pace=4,
        unfinished="SELECT EXISTS (SELECT FROM pgqueuer) AND $1 > 0",
    ),
    Peer(
        name="Oban",
        packages=("oban", "psycopg", "uvloop"),
        module="bench.peers.oban",
        worker=_oban,
        settings=f"Oban for Python: one process of its command, which runs on uvloop; a limit of {_OBAN_LIMIT} for "
        f"no-op tasks, {SLOTS} otherwise; pools of ten connections, its default; enqueued by a "
        "client that is not started, so that it listens to nothing",
        keeps="The job, its state, attempts and errors in Postgres, as durable as ours, for a day after it ended (its "
        "default); a job of a dead worker runs again. No broker.",
        servers=(Server.POSTGRES,),
        unfinished="SELECT EXISTS (SELECT FROM oban_jobs WHERE state IN ('available', 'executing')) AND $1 > 0",
        python="3.12",
    ),
)
