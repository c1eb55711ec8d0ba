"""The root of a worker's process."""

import asyncio
import os
import socket
import sys
from functools import partial

import structlog

from aftercommit.broker.connection import BrokerConnection
from aftercommit.core.settings import Settings
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.engine import create_engine
from aftercommit.runtime.notifier import OutboxNotifier
from aftercommit.runtime.poll import first_of
from aftercommit.runtime.role import run_role
from aftercommit.worker.executor import Executor
from aftercommit.worker.fetcher import Fetcher
from aftercommit.worker.heartbeat import Heartbeat
from aftercommit.worker.isolated_attempt import find_handlers, make_http_requests, run_isolated
from aftercommit.worker.poison_messages import PoisonMessages
from aftercommit.worker.process_runner import ProcessRunner
from aftercommit.worker.recorder import Recorder
from aftercommit.worker.registry import BadModule
from aftercommit.worker.worker import Worker

log = structlog.get_logger(__name__)


async def work(settings: Settings, stopping: asyncio.Event) -> None:
    """Work until ``stopping``, then stop consuming, drain to the deadline, release, close."""
    http = make_http_requests(settings)
    try:
        handlers = find_handlers(settings, http)
    except BadModule as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    # Handlers that keep their transactions open must not hold up claims and records, which have links.
    transactions = create_engine(settings, application="handlers", size=settings.worker_concurrency)
    connect = partial(DatabaseConnection, settings, application="worker")
    notifier = OutboxNotifier(connect())
    poison_messages = PoisonMessages(connect(), notifier)
    something = asyncio.Event()
    fetcher = Fetcher(
        BrokerConnection(settings.rabbitmq_url, name=f"aftercommit-worker {socket.gethostname()}-{os.getpid()}"),
        shares=dict(settings.worker_queues),
        prefetch=settings.worker_prefetch,
        hand_back_seconds=settings.worker_hand_back_seconds,
        work=something,
        on_malformed=poison_messages.add,
    )

    def stop() -> None:
        log.error("threads_exhausted")
        stopping.set()

    executor = Executor(
        handlers, settings, engine=transactions, isolation=ProcessRunner(settings, run_isolated), on_exhausted=stop
    )
    options = handlers.options(max_retries=settings.max_retries, timeout_seconds=settings.task_timeout_seconds)
    lease = Heartbeat(settings, handlers=options, on_change=lambda: worker.lease_changed())  # noqa: PLW0108  # worker comes next
    worker = Worker(
        lease=lease,
        connect=connect,
        fetcher=fetcher,
        executor=executor,
        make_recorder=lambda on_recorded: Recorder(connect(), notifier, on_recorded=on_recorded),
        slots=settings.worker_concurrency,
        work=something,
    )
    lease.start()
    drained = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.recorder.run(drained))
        group.create_task(notifier.run(drained))
        group.create_task(summarise(worker, fetcher, settings.log_summary_seconds, stopping))
        async with asyncio.TaskGroup() as taking:
            taking.create_task(worker.run(stopping))
            taking.create_task(fetcher.run(stopping))
            taking.create_task(poison_messages.run(stopping))
        await worker.drain(settings.worker_shutdown_seconds)
        drained.set()
    await lease.close()
    await fetcher.close()
    await http.close()
    await transactions.dispose()
    executor.close()


async def summarise(worker: Worker, fetcher: Fetcher, seconds: float, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        await first_of(stopping, timeout_seconds=seconds)
        totals = dict(worker.recorder.totals)
        worker.recorder.totals.clear()
        log.info("worker_summary", running=worker.running, buffered=fetcher.buffered, **totals)


def main() -> None:
    """Run the role until a signal stops it; see ``run_role`` for the exit status."""
    run_role("worker", work)
