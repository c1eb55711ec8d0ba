"""What handlers do to the world: one row per execution, written on a connection that no fault of the network reaches.

The row outlives any outage of Postgres: its writer tries again until it is in, and the execution's own id keeps a
second try from becoming a second row.
"""

import asyncio
import os
import threading
from typing import Final
from uuid import UUID, uuid4

import asyncpg

DSN_NAME: Final = "FAULT_EFFECTS_DSN"
TRY_AGAIN_SECONDS: Final = 0.2

TABLES: Final = """
    CREATE TABLE fault_effects (
        execution uuid PRIMARY KEY, task_id uuid NOT NULL, attempt int NOT NULL,
        at timestamptz NOT NULL DEFAULT clock_timestamp(), pid int NOT NULL, kind text NOT NULL
    );
    CREATE TABLE fault_transactional (task_id uuid NOT NULL, attempt int NOT NULL);
"""
_WRITE: Final = """
    INSERT INTO fault_effects (execution, task_id, attempt, pid, kind) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING
"""


class Effects:
    """Its loop runs in a thread, so that async and sync handlers alike can use it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        threading.Thread(target=self._loop.run_forever, name="effects", daemon=True).start()

    async def write(self, task_id: UUID, attempt: int, kind: str) -> None:
        """Return when the row is committed. A cancelled caller's row is still written: it did happen."""
        work = asyncio.run_coroutine_threadsafe(self._write(uuid4(), task_id, attempt, kind), self._loop)
        await asyncio.shield(asyncio.wrap_future(work))

    def write_blocking(self, task_id: UUID, attempt: int, kind: str) -> None:
        asyncio.run_coroutine_threadsafe(self._write(uuid4(), task_id, attempt, kind), self._loop).result()

    async def _write(self, execution: UUID, task_id: UUID, attempt: int, kind: str) -> None:
        while True:
            try:
                async with asyncio.timeout(5):
                    await (await self._open()).execute(_WRITE, execution, task_id, attempt, os.getpid(), kind)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                await asyncio.sleep(TRY_AGAIN_SECONDS)
            else:
                return

    async def _open(self) -> asyncpg.Pool:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(os.environ[DSN_NAME], min_size=1, max_size=4)
            return self._pool
