"""python -m app.workers.run: a worker's process."""

import asyncio
import os
import socket
import sys
from functools import partial

import structlog

from app.broker.connection import BrokerConnection
from app.config import Settings
from app.db.engine import create_engine
from app.db.link import Link
from app.db.signals import OutboxSignal
from app.process import first_of, run_role
from app.workers.attempt import find_handlers, make_http_requests, run_isolated
from app.workers.executor import Executor
from app.workers.handlers import BadModule
from app.workers.intake import Intake
from app.workers.isolation import Isolation
from app.workers.lease import Lease
from app.workers.recorder import Recorder
from app.workers.rejects import Rejects
from app.workers.worker import Worker

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
    transactions = create_engine(
        settings.model_copy(update={"postgres_pool_size": settings.worker_concurrency}), application="handlers"
    )
    connect = partial(Link, settings, application="worker")
    signal = OutboxSignal(connect())
    rejects = Rejects(connect(), signal)
    something = asyncio.Event()
    intake = Intake(
        BrokerConnection(settings.rabbitmq_url, name=f"aftercommit-worker {socket.gethostname()}-{os.getpid()}"),
        shares=dict(settings.worker_queues),
        prefetch=settings.worker_prefetch,
        hand_back_seconds=settings.worker_hand_back_seconds,
        work=something,
        on_malformed=rejects.add,
    )

    def stop() -> None:
        log.error("threads_exhausted")
        stopping.set()

    executor = Executor(
        handlers, settings, engine=transactions, isolation=Isolation(settings, run_isolated), on_exhausted=stop
    )
    lease = Lease(settings, handlers=handlers.options(), on_change=lambda: worker.lease_changed())  # noqa: PLW0108  # worker comes next
    worker = Worker(
        lease=lease,
        connect=connect,
        intake=intake,
        executor=executor,
        make_recorder=lambda on_recorded: Recorder(connect(), signal, on_recorded=on_recorded),
        slots=settings.worker_concurrency,
        work=something,
    )
    lease.start()
    drained = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.recorder.run(drained))
        group.create_task(signal.run(drained))
        group.create_task(summarise(worker, intake, settings.log_summary_seconds, stopping))
        async with asyncio.TaskGroup() as taking:
            taking.create_task(worker.run(stopping))
            taking.create_task(intake.run(stopping))
            taking.create_task(rejects.run(stopping))
        await worker.drain(settings.worker_shutdown_seconds)
        drained.set()
    await lease.close()
    await intake.close()
    await http.close()
    await transactions.dispose()
    executor.close()


async def summarise(worker: Worker, intake: Intake, seconds: float, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        await first_of(stopping, timeout_seconds=seconds)
        totals = dict(worker.recorder.totals)
        worker.recorder.totals.clear()
        log.info("worker_summary", running=worker.running, buffered=intake.buffered, **totals)


if __name__ == "__main__":
    run_role("worker", work)
