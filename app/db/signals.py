"""Wake-up calls between processes: one coalesced NOTIFY after commits, off their path.

A NOTIFY inside each transaction would take a lock of the whole cluster at its commit. A lost call costs one polling
interval, nothing more.
"""

import asyncio
from contextlib import suppress
from typing import Final

import structlog

from app.db.link import CLOSE_SECONDS, Link, StatementRefused
from app.errors import DatabaseUnavailable
from app.process import first_of, poll

log = structlog.get_logger(__name__)

OUTBOX_CHANNEL: Final = "aftercommit_outbox"
CHECK_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 60.0

_NOTIFY: Final = f"NOTIFY {OUTBOX_CHANNEL}"
_ALIVE: Final = "SELECT 1"


class OutboxSignal:
    """Tells the relays that rows were committed. ``send`` never waits; calls made meanwhile share one NOTIFY."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._pending = asyncio.Event()
        self._wanted = False

    def send(self) -> None:
        self._wanted = True
        self._pending.set()

    async def run(self, stopping: asyncio.Event) -> None:
        async with self._link:
            await poll("signal", self._tick, stopping=stopping, wake=self._pending)
            # For what was committed last. A lost call costs little, a stop that hangs more.
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._tick()

    async def _tick(self) -> float:
        if self._wanted:
            self._wanted = False
            try:
                await self._link.fetch(_NOTIFY)
            except (DatabaseUnavailable, StatementRefused) as error:
                log.debug("outbox_signal_lost", error=str(error))
        return IDLE_SECONDS


async def listen(link: Link, channel: str, wake: asyncio.Event, *, stopping: asyncio.Event) -> None:
    """Set ``wake`` at each NOTIFY on ``channel``, on a connection that is replaced when it dies."""

    async def hold_connection() -> float:
        async with link.listening(channel, wake.set) as fetch:
            # What was committed while nobody listened is found by one look.
            wake.set()
            while not stopping.is_set():
                await fetch(_ALIVE)
                await first_of(stopping, timeout_seconds=CHECK_SECONDS)
        return 0

    await poll("listen", hold_connection, stopping=stopping)
