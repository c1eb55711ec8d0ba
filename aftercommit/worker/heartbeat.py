"""The worker's lease: renewed in a thread of its own, so that a handler that blocks the event loop does not look dead.

The worker gives its lease up before Postgres lets it lapse: on the worker's clock the lease ends a part earlier,
counted from before the renewal was sent. The worker's attempts are cancelled then; when Postgres is back the worker
goes on under a new name.
"""

import asyncio
import contextvars
import functools
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog
from uuid_utils.compat import uuid4

from aftercommit import __version__
from aftercommit.core.errors import DatabaseTimeout, DatabaseUnavailable
from aftercommit.core.settings import Settings
from aftercommit.db import leases
from aftercommit.db.database import DatabaseConnection
from aftercommit.runtime.poll import first_of
from aftercommit.worker.statistics import Statistics

log = structlog.get_logger(__name__)

SAFE_PART: Final = 0.85
RETRY_SECONDS: Final = 0.2
STEP_SECONDS: Final = 0.1


class Heartbeat:
    """``name`` is the worker's name while it holds a lease, None while it must not start anything.

    ``name`` may change several times before the event loop gets to look. ``statistics`` are sent with each renewal.
    """

    def __init__(
        self, settings: Settings, *, handlers: str, statistics: Statistics, slots_taken: Callable[[], int]
    ) -> None:
        self.name: str | None = None
        self.drain_asked: Final = asyncio.Event()
        """Set when an operator wants this worker to finish and end; also under a later lease."""

        self._settings = settings
        self._handlers = handlers
        self._statistics = statistics
        self._slots_taken = slots_taken
        self._safe_until = 0.0
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._stopping = threading.Event()
        self._gives_back = True
        self._ended = asyncio.Event()
        # In this context, so that the thread's log lines carry the same fields.
        run = functools.partial(contextvars.copy_context().run, self._run)
        self._thread = threading.Thread(target=run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def holds(self, name: str) -> bool:
        """Whether the lease of this name is held at this very moment: a process that was stopped for a while finds out
        here, before it starts anything."""
        return self.name == name and time.monotonic() < self._safe_until

    async def next_change(self, stopping: asyncio.Event) -> None:
        """Return when ``name`` has changed since the last call, or at ``stopping``. For one caller."""
        await first_of(self._changed, stopping)
        self._changed.clear()

    async def close(self, *, give_back: bool = True) -> None:
        """Give the lease back. The worker must not run anything any more: with something that still runs, and must not
        be taken for stopped before this process has ended, the lease is left to lapse."""
        self._gives_back = give_back
        self._stopping.set()
        # The thread is not joined in another one: there may be none left.
        await first_of(self._ended, timeout_seconds=self._settings.worker_lease_seconds)

    def _run(self) -> None:
        try:
            asyncio.run(self._keep())
        finally:
            self._call_soon(self._ended.set)

    async def _keep(self) -> None:
        connection = DatabaseConnection(self._settings, application="heartbeat")
        while not self._stopping.is_set():
            name = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
            try:
                asked_at = await self._open(connection, name)
            except Exception as error:  # whatever it is, there is no lease, and the thread must go on
                tell = log.debug if isinstance(error, DatabaseUnavailable) else log.warning  # all tell of an outage
                tell("lease_not_opened", error=str(error))
                await self._pause_until(time.monotonic() + RETRY_SECONDS)
                continue
            self._safe_until = asked_at + self._settings.worker_lease_seconds * SAFE_PART
            log.info("lease_opened", worker=name)
            self._tell(name)
            await self._renew_until_lost(connection, name, asked_at)
            if self._stopping.is_set():
                if self._gives_back:
                    await self._give_back(connection, name)
            else:
                log.warning("lease_lost", worker=name)
                self._tell(None)
        await connection.close()

    async def _open(self, connection: DatabaseConnection, name: str) -> float:
        """When it was asked for, on the monotonic clock."""
        asked_at = time.monotonic()
        settings = self._settings
        worker = leases.Worker(
            handlers=self._handlers,
            max_retries=settings.max_retries,
            timeout_seconds=settings.task_timeout_seconds,
            lease_seconds=settings.worker_lease_seconds,
            hand_back_seconds=settings.worker_hand_back_seconds,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            work_queues=[str(pattern) for pattern, _ in settings.worker_queues],
            slots=settings.worker_concurrency,
            prefetch=settings.worker_prefetch,
        )
        await leases.open_lease(connection.fetch, name, worker)
        return asked_at

    async def _renew_until_lost(self, connection: DatabaseConnection, name: str, asked_at: float) -> None:
        """A lease that was asked for at ``asked_at`` is given up when its safe part is over."""
        settings = self._settings
        safe_seconds = settings.worker_lease_seconds * SAFE_PART
        await self._pause_until(asked_at + settings.worker_lease_renew_seconds)
        while not self._stopping.is_set() and (left := asked_at + safe_seconds - time.monotonic()) > 0:
            asking_at = time.monotonic()
            try:
                async with asyncio.timeout(left):
                    renewed = await self._renew(connection, name)
            except Exception as error:  # whatever it is, the lease ends with its safe part
                log.warning("lease_not_renewed", worker=name, error=str(error))
                await self._pause_until(time.monotonic() + RETRY_SECONDS)
                continue
            if renewed is None:
                return
            if renewed.is_to_drain:
                self._call_soon(self.drain_asked.set)
            asked_at = asking_at
            self._safe_until = asked_at + safe_seconds
            await self._pause_until(asked_at + settings.worker_lease_renew_seconds)

    async def _renew(self, connection: DatabaseConnection, name: str) -> leases.Renewed | None:
        return await leases.renew(
            connection.fetch,
            name=name,
            seconds=self._settings.worker_lease_seconds,
            statistics=self._statistics.queues(),
            slots_taken=self._slots_taken(),
        )

    async def _give_back(self, connection: DatabaseConnection, name: str) -> None:
        try:
            await leases.close(connection.fetch, name)
        except (DatabaseUnavailable, DatabaseTimeout) as error:
            # It lapses by itself, and nothing runs under it.
            log.debug("lease_not_given_back", worker=name, error=error.detail)

    async def _pause_until(self, moment: float) -> None:
        """Sleep in steps that notice the stop."""
        while not self._stopping.is_set() and (left := moment - time.monotonic()) > 0:
            await first_of(timeout_seconds=min(left, STEP_SECONDS))

    def _tell(self, name: str | None) -> None:
        self.name = name
        self._call_soon(self._changed.set)

    def _call_soon(self, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the worker's loop may be closed already
            self._loop.call_soon_threadsafe(callback)
