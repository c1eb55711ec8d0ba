"""python -m app.outbox.run: the relay's process."""

import asyncio

import structlog

from app.broker.connection import BrokerConnection
from app.broker.publisher import Publisher
from app.broker.topology import DEAD_LETTERS, retry_queue
from app.config import Settings
from app.db.link import Link
from app.db.signals import OUTBOX_CHANNEL, listen
from app.outbox.floors import Floors
from app.outbox.lookout import LOOK_SECONDS, Lookout
from app.outbox.relay import Relay, RelayTotals
from app.process import first_of, poll, run_role
from app.queues import Priority

log = structlog.get_logger(__name__)


async def relay(settings: Settings, stopping: asyncio.Event) -> None:
    """Relay until ``stopping``; a batch under way is finished first."""
    link, calls = (Link(settings, application="relay") for _ in range(2))
    looks = Link(settings, application="relay", seconds=LOOK_SECONDS)
    floors = Floors()
    wake = asyncio.Event()
    publisher = Publisher(
        BrokerConnection(settings.rabbitmq_url, name="aftercommit-relay"),
        work_queues=settings.work_queues,
        delays_seconds=settings.retry_delays_seconds,
        confirm_seconds=settings.outbox_confirm_seconds,
    )
    role = Relay(
        link=link,
        publisher=publisher,
        batch_size=settings.outbox_batch_size,
        rings_per_message=settings.outbox_rings_per_message,
        max_attempts=settings.outbox_max_attempts,
        poll_seconds=settings.outbox_poll_interval,
        floors=floors,
    )
    lookout = Lookout(
        looks,
        floors,
        destinations=destinations(settings),
        wake=wake.set,
        poll_seconds=settings.outbox_poll_interval,
    )
    async with link, looks, asyncio.TaskGroup() as group:
        looking = group.create_task(poll("lookout", lookout.tick, stopping=stopping))
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


if __name__ == "__main__":
    run_role("relay", relay)
