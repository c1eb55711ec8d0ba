"""Wakes a process when another one has committed something for it."""

import asyncio
from typing import Final

from aftercommit.db import notifications
from aftercommit.db.database import DatabaseConnection
from aftercommit.runtime.poll import first_of, poll

PROBE_SECONDS: Final = 5.0


async def listen(connection: DatabaseConnection, channel: str, *wakes: asyncio.Event, stopping: asyncio.Event) -> None:
    """Set each of ``wakes`` at each NOTIFY on ``channel``, on a connection that is replaced when it dies."""

    def wake() -> None:
        for event in wakes:
            event.set()

    async def hold_connection() -> float:
        async with connection.listening(channel, wake) as fetch:
            # Something may have been committed while nobody listened.
            wake()
            while not stopping.is_set():
                await notifications.probe(fetch)
                await first_of(stopping, timeout_seconds=PROBE_SECONDS)
        return 0

    await poll("listen", hold_connection, stopping=stopping)
