"""The root of the maintenance process."""

import asyncio

from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.declaration import Declarer
from aftercommit.broker.inspection import Inspector
from aftercommit.core.settings import Settings
from aftercommit.db.database import Database, DatabaseConnection
from aftercommit.runtime.notifier import OutboxNotifier
from aftercommit.runtime.poll import poll
from aftercommit.runtime.role import run_role
from aftercommit.server.maintenance.pruner import Pruner
from aftercommit.server.maintenance.reconciler import Reconciler
from aftercommit.server.maintenance.rescuer import Rescuer
from aftercommit.server.maintenance.scheduler import Scheduler
from aftercommit.server.maintenance.topology_keeper import TopologyKeeper


async def maintain(settings: Settings, stopping: asyncio.Event) -> None:
    """Run every service until ``stopping``; a batch under way is finished first."""
    database = Database(settings, application="maintenance")
    connection = BrokerConnection(settings.rabbitmq_url, name="aftercommit-maintenance")
    notifier = OutboxNotifier(DatabaseConnection(settings, application="maintenance"))
    inspector = Inspector(connection)
    services = {
        "topology": TopologyKeeper(
            Declarer(connection, settings), interval_seconds=settings.topology_interval_seconds
        ).tick,
        "schedule": Scheduler(database, notifier, interval_seconds=settings.scheduler_interval_seconds).tick,
        "rescue": Rescuer(database, notifier, settings).tick,
        "reconcile": Reconciler(database, notifier, inspector, settings).tick,
        "prune": Pruner(database, interval_seconds=settings.prune_interval_seconds).tick,
    }
    async with asyncio.TaskGroup() as group:
        group.create_task(notifier.run(stopping))
        for name, tick in services.items():
            group.create_task(poll(name, tick, stopping=stopping))
    await connection.close()
    await database.close()


def main() -> None:
    """Run the role until a signal stops it; see ``run_role`` for the exit status."""
    run_role("maintenance", maintain)
