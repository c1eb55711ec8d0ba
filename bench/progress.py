"""What Postgres says about the tasks submitted since a moment: whether they are finished, when, and by whom."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

SWEEP_SECONDS: Final = 0.05


class Unfinished(Exception):
    """Tasks were not finished within the time allowed."""


@dataclass(frozen=True, slots=True)
class Span:
    """Unix times by the database's clock: of the first claim and of the last recorded outcome."""

    tasks: int
    first_started_at: float
    last_finished_at: float

    @property
    def seconds(self) -> float:
        return self.last_finished_at - self.first_started_at

    @property
    def rate(self) -> float:
        """Tasks/s."""
        return self.tasks / self.seconds


class Progress:
    """Of the tasks whose id, a UUIDv7, was made at ``since`` (a Unix time) or later."""

    def __init__(self, connection: asyncpg.Connection, *, since: float) -> None:
        self._connection = connection
        self._first = first_id(since)
        self._seen = self._first

    async def oldest_unfinished(self) -> UUID | None:
        """Nothing before it will be unfinished again, so each look begins where the last one ended: cheap however
        many there are, and however many dead row versions a long transaction keeps. By primary key, since the index of
        unfinished tasks holds those too."""
        found: UUID | None = await self._connection.fetchval(
            """SELECT id FROM (SELECT id, finished_at FROM aftercommit.tasks
                WHERE id >= $1 ORDER BY id OFFSET 0) AS later
               WHERE finished_at IS NULL LIMIT 1""",
            self._seen,
        )
        self._seen = found or self._seen
        return found

    async def until_finished(self, tasks: int, *, timeout_seconds: float) -> Span:
        """Wait for all of them, ``tasks`` in number. Raises Unfinished when there are fewer, or one did not succeed."""
        deadline = time.monotonic() + timeout_seconds
        while await self.oldest_unfinished() is not None:
            if time.monotonic() > deadline:
                raise Unfinished(f"{await self.unfinished()} of {tasks} tasks after {timeout_seconds:g} s")
            await asyncio.sleep(SWEEP_SECONDS)
        return await self._span(tasks)

    async def unfinished(self, type: str | None = None) -> int:
        """How many, of this type or of all."""
        count: int = await self._connection.fetchval(
            """SELECT count(*) FILTER (WHERE finished_at IS NULL) FROM aftercommit.tasks
               WHERE id >= $1 AND ($2::text IS NULL OR type = $2)""",
            self._seen,
            type,
        )
        return count

    async def _span(self, tasks: int) -> Span:
        row = await self._connection.fetchrow(
            """SELECT count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
                   extract(epoch FROM min(first_started_at))::float8, extract(epoch FROM max(finished_at))::float8
               FROM aftercommit.tasks WHERE id >= $1""",
            self._first,
        )
        assert row is not None
        if row[0] != tasks:
            raise Unfinished(f"{row[0]} of {tasks} tasks succeeded")
        return Span(*row)

    async def by_worker(self) -> dict[str, int]:
        """How many tasks each worker ran last."""
        rows = await self._connection.fetch(
            "SELECT worker, count(*) FROM aftercommit.tasks WHERE id >= $1 GROUP BY worker", self._first
        )
        return {row[0]: row[1] for row in rows}

    async def starts(self, type: str) -> list[tuple[float, float]]:
        """Of the tasks of a type that succeeded: when each was sent, as its payload tells, and when its handler began,
        which tells the seconds in between as its result."""
        rows = await self._connection.fetch(
            """SELECT sent_at, sent_at + (result #>> '{}')::float8 FROM aftercommit.tasks,
                   LATERAL (SELECT (payload->>'sent_at')::float8 AS sent_at) AS sent
               WHERE id >= $1 AND type = $2 AND status = 'succeeded'""",
            self._first,
            type,
        )
        return [(row[0], row[1]) for row in rows]


def first_id(moment: float) -> UUID:
    """The smallest UUIDv7 of the millisecond of a Unix time (RFC 9562, 5.7)."""
    return UUID(int=int(moment * 1000) << 80 | 0x7 << 76 | 0x2 << 62)


def id_milliseconds(task_id: UUID) -> int:
    """The Unix time, in milliseconds, at which a UUIDv7 was made."""
    return task_id.int >> 80
