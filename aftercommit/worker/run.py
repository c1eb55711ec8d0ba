"""The root of a worker's process."""

import asyncio
import os
import socket
import sys
from collections.abc import Mapping
from functools import partial

import structlog

from aftercommit.broker.connection import BrokerConnection
from aftercommit.core.settings import Settings
from aftercommit.db.database import DatabaseConnection
from aftercommit.runtime.announce import announce
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.runtime.notifier import Notifier
from aftercommit.runtime.poll import first_of
from aftercommit.runtime.role import run_role
from aftercommit.runtime.summary import summarise
from aftercommit.worker import progress_writer
from aftercommit.worker.cancel_watcher import CancelWatcher
from aftercommit.worker.claim_signal import ClaimSignal
from aftercommit.worker.claimer import Claimer
from aftercommit.worker.declared_schedules import DeclaredSchedules
from aftercommit.worker.declared_types import declare_types
from aftercommit.worker.executor import Executor
from aftercommit.worker.fetcher import Fetcher
from aftercommit.worker.handler_threads import HandlerThreads
from aftercommit.worker.handler_transaction import HandlerTransactions
from aftercommit.worker.heartbeat import Heartbeat
from aftercommit.worker.isolated_attempt import run_isolated
from aftercommit.worker.limits import Limits
from aftercommit.worker.parked_fetcher import ParkedFetcher
from aftercommit.worker.poison_messages import PoisonMessages
from aftercommit.worker.process_runner import ProcessRunner
from aftercommit.worker.progress_writer import ProgressWriter
from aftercommit.worker.recorder import Recorder
from aftercommit.worker.registry import BadModule, Handlers, opened_handlers
from aftercommit.worker.slots import Slots
from aftercommit.worker.sorter import Sorter
from aftercommit.worker.start_times import StartTimes
from aftercommit.worker.statistics import Statistics
from aftercommit.worker.type_filter import TypeFilter

log = structlog.get_logger(__name__)


async def work(settings: Settings, stopping: asyncio.Event) -> None:
    """Work until ``stopping``, then stop consuming, drain to the deadline, release, close."""
    try:
        async with opened_handlers(settings) as handlers:
            await _work(settings, handlers, stopping)
    except BadModule as error:
        print(error, file=sys.stderr)
        sys.exit(2)


async def _work(settings: Settings, handlers: Handlers, stopping: asyncio.Event) -> None:
    log.info("handlers_found", types=sorted(handlers.by_type))
    connect = partial(DatabaseConnection, settings, application="worker")
    threads_exhausted, leaving, drained = asyncio.Event(), asyncio.Event(), asyncio.Event()
    signal = ClaimSignal()
    types = TypeFilter(handlers.by_type)

    statistics = Statistics()
    heartbeat = Heartbeat(
        settings,
        handlers=handlers.options(max_retries=settings.max_retries, timeout_seconds=settings.task_timeout_seconds),
        statistics=statistics,
        slots_taken=lambda: slots.taken,
    )
    notifier = Notifier(connect())
    poison_messages = PoisonMessages(connect(), notifier)
    recorder = Recorder(connect(), notifier, statistics)
    start_times = StartTimes(connect())
    processes = ProcessRunner(settings, run_isolated, start_times=start_times)
    transactions = HandlerTransactions(
        settings, application="handlers", size=settings.worker_transaction_pool, start_times=start_times
    )
    threads = HandlerThreads(settings.worker_concurrency, exhausted=threads_exhausted)
    progress = ProgressWriter(connect(seconds=progress_writer.STATEMENT_SECONDS))
    executor = Executor(
        handlers,
        settings,
        transactions=transactions,
        threads=threads,
        processes=processes,
        tell_progress=progress.tell,
        types=types,
    )
    slots = Slots(
        settings.worker_concurrency,
        executor=executor,
        recorder=recorder,
        statistics=statistics,
        signal=signal,
    )
    queues = KnownQueues(settings.queues)
    fetcher = Fetcher(
        BrokerConnection(settings.rabbitmq_url, name=f"aftercommit-worker {socket.gethostname()}-{os.getpid()}"),
        shares=settings.worker_queues,
        queues=queues,
        prefetch=settings.worker_prefetch,
        hand_back_seconds=settings.worker_hand_back_seconds,
        on_work=signal.set,
        on_malformed=poison_messages.add,
        types=types,
    )
    limits = Limits(queues=queues, connect=connect, heartbeat=heartbeat, slots=slots, fetcher=fetcher, signal=signal)
    claimer = Claimer(
        heartbeat=heartbeat,
        connect=connect,
        fetcher=fetcher,
        slots=slots,
        recorder=recorder,
        statistics=statistics,
        signal=signal,
        limits=limits,
    )
    sorter = Sorter(
        connect(), fetcher=fetcher, heartbeat=heartbeat, notifier=notifier, statistics=statistics, types=types
    )
    parked_fetcher = ParkedFetcher(
        connect(),
        fetcher=fetcher,
        slots=slots,
        heartbeat=heartbeat,
        types=types,
    )

    def tell(done: Mapping[str, int]) -> None:
        log.info(
            "worker_summary",
            running=slots.taken,
            buffered=fetcher.buffered,
            waiting_for_process=processes.places.waiting,
            waiting_for_transaction=transactions.places.waiting,
            **done,
        )

    schedules = DeclaredSchedules(handlers.by_type.values(), settings.worker_modules, connect(), notifier)

    heartbeat.start()
    async with asyncio.TaskGroup() as until_drained:
        until_drained.create_task(recorder.run(drained))
        until_drained.create_task(notifier.run(drained))
        until_drained.create_task(start_times.run(drained))
        until_drained.create_task(progress.run(drained))
        until_drained.create_task(slots.watch(heartbeat, drained))
        until_drained.create_task(limits.run(drained))
        until_drained.create_task(CancelWatcher(connect(), slots).run(drained))
        until_drained.create_task(
            summarise(tell, statistics.outcomes, seconds=settings.log_summary_seconds, stopping=stopping)
        )
        until_drained.create_task(_stop_when(threads_exhausted, stopping))
        async with asyncio.TaskGroup() as until_leaving:
            until_leaving.create_task(_leave(leaving, stopping, heartbeat.drain_asked))
            until_leaving.create_task(queues.run(connect(), leaving))
            for part in (claimer, fetcher, sorter, parked_fetcher, poison_messages, schedules):
                until_leaving.create_task(part.run(leaving))
            until_leaving.create_task(
                announce(
                    "declare_types",
                    partial(declare_types, handlers.by_type.values(), connect, notifier),
                    stopping=leaving,
                )
            )
        limits.stop()
        await _finish(slots, stopping, seconds=settings.worker_shutdown_seconds)
        await recorder.drain(settings.worker_lease_seconds)
        drained.set()
    await _give_back(heartbeat, slots)
    await fetcher.close()
    await transactions.close()
    threads.close()


async def _finish(slots: Slots, stopping: asyncio.Event, *, seconds: float) -> None:
    """End what runs: within ``seconds`` of ``stopping``, or when it ends by itself."""
    await slots.finish(stopping)
    stopping.set()
    await slots.drain(seconds)


async def _give_back(heartbeat: Heartbeat, slots: Slots) -> None:
    if still_cancelling := slots.cancelling:
        log.warning("cancelled_tasks_left", count=still_cancelling)
    await heartbeat.close(give_back=not still_cancelling)


async def _leave(leaving: asyncio.Event, stopping: asyncio.Event, drain_asked: asyncio.Event) -> None:
    """Take nothing more from when the process is told to stop, or an operator wants it to finish."""
    await first_of(stopping, drain_asked)
    if not stopping.is_set():
        log.info("draining")
    leaving.set()


async def _stop_when(threads_exhausted: asyncio.Event, stopping: asyncio.Event) -> None:
    """Stop a worker that can start no more threads: only a new process helps."""
    await first_of(threads_exhausted, stopping)
    if threads_exhausted.is_set():
        log.error("threads_exhausted")
        stopping.set()


def main() -> None:
    """Run the role until a signal stops it; see ``run_role`` for the exit status."""
    run_role("worker", work)
