"""python -m app.maintenance.run: the maintenance process."""

import asyncio

from app.broker.connection import BrokerConnection
from app.broker.inspection import Inspector
from app.config import Settings
from app.db.engine import create_engine
from app.db.link import Link
from app.db.signals import OutboxSignal
from app.maintenance.pruner import Pruner
from app.maintenance.reconciler import Reconciler
from app.maintenance.rescuer import Rescuer
from app.maintenance.scheduler import Scheduler
from app.maintenance.topology import TopologyKeeper
from app.process import poll, run_role


async def maintain(settings: Settings, stopping: asyncio.Event) -> None:
    """Run every service until ``stopping``; a batch under way is finished first."""
    engine = create_engine(settings, application="maintenance")
    connection = BrokerConnection(settings.rabbitmq_url, name="aftercommit-maintenance")
    signal = OutboxSignal(Link(settings, application="maintenance"))
    inspector = Inspector(connection)
    services = {
        "topology": TopologyKeeper(connection, settings).tick,
        "schedule": Scheduler(engine, signal, interval_seconds=settings.scheduler_interval_seconds).tick,
        "rescue": Rescuer(engine, signal, settings).tick,
        "reconcile": Reconciler(engine, signal, inspector, settings).tick,
        "prune": Pruner(engine, interval_seconds=settings.prune_interval_seconds).tick,
    }
    async with asyncio.TaskGroup() as group:
        group.create_task(signal.run(stopping))
        for name, tick in services.items():
            group.create_task(poll(name, tick, stopping=stopping))
    await connection.close()
    await engine.dispose()


if __name__ == "__main__":
    run_role("maintenance", maintain)
