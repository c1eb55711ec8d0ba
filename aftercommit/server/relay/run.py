"""The root of the relay's process."""

import asyncio
from collections.abc import Mapping
from functools import partial

import structlog

from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.declaration import Declarer
from aftercommit.broker.publisher import Publisher
from aftercommit.broker.topology import DEAD_LETTERS, retry_queue
from aftercommit.core.queues import Priority
from aftercommit.core.settings import Settings
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.notifications import OUTBOX_CHANNEL
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.runtime.listener import listen
from aftercommit.runtime.poll import poll
from aftercommit.runtime.role import run_role
from aftercommit.runtime.summary import summarise
from aftercommit.server.relay.relay import Relay
from aftercommit.server.relay.straggler_sweep import SWEEP_SECONDS

log = structlog.get_logger(__name__)


async def relay(settings: Settings, stopping: asyncio.Event) -> None:
    """Relay until ``stopping``; a batch under way is finished first."""
    connect = partial(DatabaseConnection, settings, application="relay")
    connection, sweep_connection, calls = connect(), connect(seconds=SWEEP_SECONDS), connect()
    queues = KnownQueues(settings.queues)
    publisher = make_publisher(settings, queues)
    role = Relay(
        connection=connection,
        sweep_connection=sweep_connection,
        publisher=publisher,
        destinations=lambda: destinations(settings, queues),
        batch_size=settings.outbox_batch_size,
        tasks_per_message=settings.outbox_tasks_per_message,
        max_attempts=settings.outbox_max_attempts,
        poll_seconds=settings.outbox_poll_interval,
    )

    def tell(done: Mapping[str, int]) -> None:
        log.info("relay_summary", **done)

    async with connection, sweep_connection, asyncio.TaskGroup() as group:
        sweeping = group.create_task(poll("straggler_sweep", role.sweep, stopping=stopping))
        group.create_task(queues.run(connect(), stopping))
        group.create_task(listen(calls, OUTBOX_CHANNEL, role.wake, role.announced, stopping=stopping))
        group.create_task(summarise(tell, role.totals, seconds=settings.log_summary_seconds, stopping=stopping))
        await poll("relay", role.tick, stopping=stopping, wake=role.wake)
        sweeping.cancel()  # a sweep may take long, and leaves nothing half done
    await publisher.close()


def make_publisher(settings: Settings, queues: KnownQueues) -> Publisher:
    connection = BrokerConnection(settings.rabbitmq_url, name="aftercommit-relay")
    declarer = Declarer(connection, settings, lambda: queues.work_queues)
    return Publisher(connection, declarer, confirm_seconds=settings.outbox_confirm_seconds)


def destinations(settings: Settings, queues: KnownQueues) -> list[str]:
    """Where rows go, as far as the queues and the settings tell."""
    retries = [retry_queue(priority, delay) for priority in Priority for delay in settings.retry_delays_seconds]
    return [*queues.work_queue_names, *dict.fromkeys(retries), DEAD_LETTERS]


def main() -> None:
    """Run the role until a signal stops it; see ``run_role`` for the exit status."""
    run_role("relay", relay)
