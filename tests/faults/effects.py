"""What handlers do to the world: one row per execution, written on a connection that no fault of the network reaches.

The row outlives any outage of Postgres: its writer tries again until it is in, and the execution's own id keeps a
second try from becoming a second row.
"""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

import asyncpg
import uvloop

DSN_NAME: Final = "FAULT_EFFECTS_DSN"
TRY_AGAIN_SECONDS: Final = 0.2

TABLES: Final = """
    CREATE TABLE fault_effects (
        execution uuid PRIMARY KEY, task_id uuid NOT NULL, attempt int NOT NULL,
        at timestamptz NOT NULL DEFAULT clock_timestamp(), pid int NOT NULL, kind text NOT NULL
    );
    CREATE TABLE fault_transactional (task_id uuid NOT NULL, attempt int NOT NULL);

    -- What retention deletes is kept for the account.
    CREATE TABLE fault_deleted_tasks AS SELECT *, now() AS deleted_at FROM aftercommit.tasks;
    CREATE TABLE fault_deleted_attempts AS SELECT *, now() AS deleted_at FROM aftercommit.attempts;
    CREATE FUNCTION fault_keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        EXECUTE format('INSERT INTO public.fault_deleted_%I SELECT $1.*, now()', TG_TABLE_NAME) USING OLD;
        RETURN NULL;
    END $$;
    CREATE TRIGGER fault_keep AFTER DELETE ON aftercommit.tasks FOR EACH ROW EXECUTE FUNCTION fault_keep();
    CREATE TRIGGER fault_keep AFTER DELETE ON aftercommit.attempts FOR EACH ROW EXECUTE FUNCTION fault_keep();
"""
_WRITE: Final = """
    INSERT INTO fault_effects (execution, task_id, attempt, pid, kind)
    SELECT execution, task_id, attempt, $4, kind
    FROM unnest($1::uuid[], $2::uuid[], $3::int[], $5::text[]) AS effect (execution, task_id, attempt, kind)
    ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Effect:
    execution: UUID
    task_id: UUID
    attempt: int
    kind: str
    written: "Future[None]"


class Effects:
    """Its loop runs in a thread, so that async and sync handlers alike can use it. What executions write while a
    statement is under way goes into the next one together: the suite must not cost more than what it tests."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._waiting: deque[Effect] = deque()
        self._wake = asyncio.Event()
        threading.Thread(target=self._run, name="effects", daemon=True).start()

    async def write(self, task_id: UUID, attempt: int, kind: str) -> None:
        """Return when the row is committed. A cancelled caller's row is still written: it did happen."""
        await asyncio.shield(asyncio.wrap_future(self._add(task_id, attempt, kind)))

    def write_blocking(self, task_id: UUID, attempt: int, kind: str) -> None:
        self._add(task_id, attempt, kind).result()

    def _add(self, task_id: UUID, attempt: int, kind: str) -> "Future[None]":
        effect = Effect(uuid4(), task_id, attempt, kind, Future())
        effect.written.set_running_or_notify_cancel()  # from now on nobody can cancel it
        self._waiting.append(effect)
        self._loop.call_soon_threadsafe(self._wake.set)
        return effect.written

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._write_all())

    async def _write_all(self) -> None:
        connection: asyncpg.Connection | None = None
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch = list(self._waiting)
            while batch:
                try:
                    async with asyncio.timeout(5):
                        if connection is None or connection.is_closed():
                            connection = await asyncpg.connect(os.environ[DSN_NAME])
                        await connection.execute(_WRITE, *_columns(batch))
                except (
                    OSError,
                    TimeoutError,
                    asyncpg.PostgresError,
                    asyncpg.InterfaceError,
                    asyncpg.InternalClientError,
                ):
                    if connection is not None:
                        connection.terminate()
                    await asyncio.sleep(TRY_AGAIN_SECONDS)
                    continue
                for effect in batch:
                    self._waiting.popleft()
                    effect.written.set_result(None)
                break


def _columns(batch: Sequence[Effect]) -> tuple[object, ...]:
    return (
        [effect.execution for effect in batch],
        [effect.task_id for effect in batch],
        [effect.attempt for effect in batch],
        os.getpid(),
        [effect.kind for effect in batch],
    )
