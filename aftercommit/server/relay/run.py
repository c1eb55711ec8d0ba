"""The root of the relay's process."""

import asyncio

import structlog

from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.publisher import Publisher
from aftercommit.broker.topology import DEAD_LETTERS, retry_queue
from aftercommit.core.queues import Priority
from aftercommit.core.settings import Settings
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.notifications import OUTBOX_CHANNEL
from aftercommit.runtime.poll import first_of, poll
from aftercommit.runtime.role import run_role
from aftercommit.server.relay.listener import listen
from aftercommit.server.relay.read_cursors import ReadCursors
from aftercommit.server.relay.relay import Relay, RelayTotals
from aftercommit.server.relay.straggler_sweep import SWEEP_SECONDS, StragglerSweep

log = structlog.get_logger(__name__)


async def relay(settings: Settings, stopping: asyncio.Event) -> None:
    """Relay until ``stopping``; a batch under way is finished first."""
    connection, calls = (DatabaseConnection(settings, application="relay") for _ in range(2))
    looks = DatabaseConnection(settings, application="relay", seconds=SWEEP_SECONDS)
    cursors = ReadCursors()
    wake = asyncio.Event()
    publisher = Publisher(
        BrokerConnection(settings.rabbitmq_url, name="aftercommit-relay"),
        work_queues=settings.work_queues,
        delays_seconds=settings.retry_delays_seconds,
        confirm_seconds=settings.outbox_confirm_seconds,
    )
    role = Relay(
        connection=connection,
        publisher=publisher,
        batch_size=settings.outbox_batch_size,
        tasks_per_message=settings.outbox_tasks_per_message,
        max_attempts=settings.outbox_max_attempts,
        poll_seconds=settings.outbox_poll_interval,
        cursors=cursors,
    )
    straggler_sweep = StragglerSweep(
        looks,
        cursors,
        destinations=destinations(settings),
        wake=wake.set,
        poll_seconds=settings.outbox_poll_interval,
    )
    async with connection, looks, asyncio.TaskGroup() as group:
        looking = group.create_task(poll("straggler_sweep", straggler_sweep.tick, stopping=stopping))
        group.create_task(listen(calls, OUTBOX_CHANNEL, wake, stopping=stopping))
        group.create_task(summarise(role, settings.log_summary_seconds, stopping))
        await poll("relay", role.tick, stopping=stopping, wake=wake)
        looking.cancel()  # a look may take long, and leaves nothing half done
    await publisher.close()


def destinations(settings: Settings) -> list[str]:
    """Where rows go as far as the settings tell."""
    retries = [retry_queue(priority, delay) for priority in Priority for delay in settings.retry_delays_seconds]
    return [*map(str, settings.work_queues), *dict.fromkeys(retries), DEAD_LETTERS]


async def summarise(role: Relay, seconds: float, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        await first_of(stopping, timeout_seconds=seconds)
        totals, role.totals = role.totals, RelayTotals()
        log.info("relay_summary", **{str(fate): count for fate, count in totals.rows.items()})


def main() -> None:
    """Run the role until a signal stops it; see ``run_role`` for the exit status."""
    run_role("relay", relay)
