"""The root of the maintenance process."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.declaration import Declarer
from aftercommit.broker.inspection import Inspector
from aftercommit.broker.marker import Marker
from aftercommit.broker.removal import QueueRemoval
from aftercommit.core.settings import Settings
from aftercommit.db import announcements
from aftercommit.db.database import FRESH_PLANS, Database, DatabaseConnection
from aftercommit.db.notifications import DUE_CHANNEL
from aftercommit.db.retention import Kind
from aftercommit.runtime.announce import announce
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.runtime.listener import listen
from aftercommit.runtime.notifier import Notifier
from aftercommit.runtime.poll import poll
from aftercommit.runtime.role import run_role
from aftercommit.server.maintenance import task_pruner
from aftercommit.server.maintenance.expirer import Expirer
from aftercommit.server.maintenance.idempotency_key_pruner import IdempotencyKeyPruner
from aftercommit.server.maintenance.loss_detector import LossDetector
from aftercommit.server.maintenance.parked_sweeper import ParkedSweeper
from aftercommit.server.maintenance.queue_remover import Purger, QueueRemover
from aftercommit.server.maintenance.reconciler import Reconciler
from aftercommit.server.maintenance.rescuer import Rescuer
from aftercommit.server.maintenance.result_pruner import ResultPruner
from aftercommit.server.maintenance.schedule_run_pruner import ScheduleRunPruner
from aftercommit.server.maintenance.scheduler import Scheduler
from aftercommit.server.maintenance.task_pruner import TaskPruner
from aftercommit.server.maintenance.ticker import Ticker
from aftercommit.server.maintenance.topology_keeper import TopologyKeeper
from aftercommit.server.maintenance.unique_key_sweeper import UniqueKeySweeper

Run = Callable[[], Awaitable[float]]


async def maintain(settings: Settings, stopping: asyncio.Event) -> None:
    """Run every service until ``stopping``; a batch under way is finished first."""
    database = Database(settings, application="maintenance")
    notifier = Notifier(DatabaseConnection(settings, application="maintenance"))
    broker = BrokerConnection(settings.rabbitmq_url, name="aftercommit-maintenance")
    deletions = DatabaseConnection(
        settings, application="maintenance", seconds=task_pruner.STATEMENT_SECONDS, planning=FRESH_PLANS
    )
    calls = DatabaseConnection(settings, application="maintenance")
    queues = KnownQueues(settings.queues)
    scheduler = Scheduler(database, notifier, interval_seconds=settings.scheduler_interval_seconds)
    ticker = Ticker(database, notifier, queues=queues, interval_seconds=settings.scheduler_interval_seconds)
    topology_keeper = TopologyKeeper(
        Declarer(broker, settings, lambda: queues.work_queues),
        queues,
        interval_seconds=settings.topology_interval_seconds,
    )
    remover = QueueRemover(
        database,
        notifier,
        queues,
        QueueRemoval(broker),
        longest_retry_seconds=max(settings.retry_delays_seconds),
    )
    services = _services(
        settings, database=database, notifier=notifier, broker=broker, deletions=deletions, queues=queues
    )
    async with deletions, asyncio.TaskGroup() as group:
        group.create_task(notifier.run(stopping))
        group.create_task(queues.run(DatabaseConnection(settings, application="maintenance"), stopping))
        group.create_task(
            announce(
                "announce_queues", partial(announcements.queues, database.fetch, settings.queues), stopping=stopping
            )
        )
        group.create_task(listen(calls, DUE_CHANNEL, scheduler.wake, ticker.wake, stopping=stopping))
        group.create_task(poll("topology", topology_keeper.run_once, stopping=stopping, wake=topology_keeper.wake))
        group.create_task(poll("remove_queues", remover.run_once, stopping=stopping, wake=remover.wake))
        group.create_task(poll("schedule", scheduler.run_once, stopping=stopping, wake=scheduler.wake))
        group.create_task(poll("sweep_schedule", scheduler.sweep, stopping=stopping))
        group.create_task(poll("tick", ticker.run_once, stopping=stopping, wake=ticker.wake))
        running = {
            name: group.create_task(poll(name, run_once, stopping=stopping)) for name, run_once in services.items()
        }
        await stopping.wait()
        running["prune_tasks"].cancel()  # a statement of it may take long, and leaves nothing half done
    await broker.close()
    await database.close()


def _services(
    settings: Settings,
    *,
    database: Database,
    notifier: Notifier,
    broker: BrokerConnection,
    deletions: DatabaseConnection,
    queues: KnownQueues,
) -> Mapping[str, Run]:
    rescuer = Rescuer(
        database,
        notifier,
        interval_seconds=settings.rescue_interval_seconds,
        overdue_seconds=settings.rescue_overdue_seconds,
    )
    pruner = TaskPruner(
        deletions,
        retention_seconds={
            Kind.SUCCEEDED: settings.retention_succeeded_seconds,
            Kind.UNSUCCESSFUL: settings.retention_failed_seconds,
        },
        tasks_per_second=settings.retention_tasks_per_second,
        interval_seconds=settings.prune_interval_seconds,
        summary_seconds=settings.log_summary_seconds,
    )
    loss_detector = LossDetector(
        database,
        notifier,
        Marker(broker, settings.rabbitmq_queue_type),
        queue_type=settings.rabbitmq_queue_type,
        work_queues=lambda: queues.work_queues,
    )
    expirer = Expirer(database)
    return {
        "rescue": rescuer.run_once,
        "expire": expirer.run_once,
        "sweep_parked": ParkedSweeper(database, notifier, unknown_type_seconds=settings.unknown_type_seconds).run_once,
        "sweep_expired": expirer.sweep,
        "detect_loss": loss_detector.run_once,
        "reconcile": Reconciler(database, notifier, Inspector(broker), settings, lambda: queues.work_queues).run_once,
        "purge": Purger(database).run_once,
        "prune_keys": IdempotencyKeyPruner(database, interval_seconds=settings.prune_interval_seconds).run_once,
        "prune_results": ResultPruner(
            database,
            tasks_per_second=settings.retention_tasks_per_second,
            interval_seconds=settings.prune_interval_seconds,
        ).run_once,
        "sweep_unique_keys": UniqueKeySweeper(database, interval_seconds=settings.prune_interval_seconds).run_once,
        "prune_schedule_runs": ScheduleRunPruner(
            database,
            retention_seconds=settings.retention_schedule_runs_seconds,
            interval_seconds=settings.prune_interval_seconds,
        ).run_once,
        "prune_tasks": pruner.run_once,
    }


def main() -> None:
    """Run the role until a signal stops it; see ``run_role`` for the exit status."""
    run_role("maintenance", maintain)
