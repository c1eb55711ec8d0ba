"""The root of the forwarder's process."""

import asyncio
import sys
from collections.abc import Mapping

import structlog

from aftercommit.core.settings import Settings
from aftercommit.db.database import DatabaseConnection
from aftercommit.forward.commands import NO_DSN
from aftercommit.forward.delivery import Delivery
from aftercommit.forward.forwarder import Forwarder
from aftercommit.runtime.poll import poll
from aftercommit.runtime.role import run_role
from aftercommit.runtime.summary import summarise

log = structlog.get_logger(__name__)


async def forward(settings: Settings, stopping: asyncio.Event) -> None:
    """Forward until ``stopping``; a batch under way is finished first."""
    if settings.forward_dsn is None:
        print(NO_DSN, file=sys.stderr)
        sys.exit(2)
    try:
        delivery = Delivery(settings.aftercommit_url, api_key=settings.aftercommit_api_key)
    except ValueError as error:
        print(f"AFTERCOMMIT_URL, AFTERCOMMIT_API_KEY: {error}", file=sys.stderr)
        sys.exit(2)
    connection = DatabaseConnection(settings.forward_dsn, application="forward")
    role = Forwarder(
        connection,
        delivery,
        batch_size=settings.forward_batch_size,
        poll_seconds=settings.forward_poll_seconds,
    )

    def tell(done: Mapping[str, int]) -> None:
        log.info("forward_summary", **done)

    async with connection, asyncio.TaskGroup() as group:
        group.create_task(summarise(tell, role.totals, seconds=settings.log_summary_seconds, stopping=stopping))
        await poll("forward", role.tick, stopping=stopping)
    await delivery.close()


def main() -> None:
    """Run the role until a signal stops it; see ``run_role`` for the exit status."""
    run_role("forward", forward)
