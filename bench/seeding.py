"""Tasks made by SQL, millions in minutes: finished ones, waiting ones with their outbox rows, and scheduled ones."""

import time
from typing import Final

import asyncpg

PARKED: Final = "parked"
"""A queue that no worker of the benchmarks serves."""

CHUNK: Final = 250_000
"""Rows of one statement: commits in between let checkpoints and autovacuum do their work."""

# A UUIDv7 from a time and a number: 4,096 share a millisecond, in order, and the rest is scattered by md5.
_ID: Final = """(
    lpad(to_hex($1::bigint + n / 4096), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0') || '8'
    || substr(md5(n::text), 1, 15)
)::uuid"""

_ADD_FINISHED: Final = f"""
    INSERT INTO aftercommit.tasks (id, type, queue, priority, status, attempt, payload, result, worker,
        created_at, queued_at, first_started_at, started_at, finished_at)
    SELECT {_ID}, 'bench.noop', 'tasks', (ARRAY['high', 'medium', 'low'])[1 + n % 3], 'succeeded', 1, '{{}}', 'null',
        'worker-' || n % 8, moment, moment, moment, moment, moment
    FROM generate_series($2::bigint, $3::bigint) AS n,
        to_timestamp(($1::bigint + n / 4096) / 1000.0) AS moment
"""

_ADD_WAITING: Final = f"""
    WITH waiting AS (
        INSERT INTO aftercommit.tasks (id, type, queue, priority, status, payload)
        SELECT {_ID}, 'bench.noop', '{PARKED}', 'medium', 'queued', '{{}}'
        FROM generate_series($2::bigint, $3::bigint) AS n
        RETURNING id, queue, priority
    )
    INSERT INTO aftercommit.outbox_rows (work_queue, task_ids, dispatches)
    SELECT queue || '.' || priority, ARRAY[id], ARRAY[1] FROM waiting
"""

_ADD_SCHEDULED: Final = f"""
    INSERT INTO aftercommit.tasks (id, type, queue, priority, status, dispatch, enqueued, due_at, payload)
    SELECT {_ID}, 'bench.noop', 'tasks', 'medium', 'scheduled', 0, false,
        now() + interval '1 day' + n * interval '1 ms', '{{}}'
    FROM generate_series($2::bigint, $3::bigint) AS n
"""

DAY_MILLISECONDS: Final = 86_400_000


async def add_finished(connection: asyncpg.Connection, tasks: int) -> None:
    """Tasks that succeeded a day ago."""
    await _add(connection, _ADD_FINISHED, tasks, milliseconds=int(time.time() * 1000) - DAY_MILLISECONDS)


async def add_waiting(connection: asyncpg.Connection, tasks: int) -> None:
    """Tasks in ``PARKED`` that the relay has still to publish."""
    await _add(connection, _ADD_WAITING, tasks, milliseconds=int(time.time() * 1000) - DAY_MILLISECONDS // 2)


async def add_scheduled(connection: asyncpg.Connection, tasks: int) -> None:
    """Tasks that fall due from tomorrow on."""
    await _add(connection, _ADD_SCHEDULED, tasks, milliseconds=int(time.time() * 1000) - DAY_MILLISECONDS // 2)


async def _add(connection: asyncpg.Connection, statement: str, tasks: int, *, milliseconds: int) -> None:
    for first in range(0, tasks, CHUNK):
        last = min(first + CHUNK, tasks) - 1
        await connection.execute(statement, milliseconds, first, last, timeout=600)
