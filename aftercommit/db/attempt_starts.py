"""``tasks.started_at`` of attempts that wait for a place on their worker: null for as long as their clock stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from aftercommit.core.states import Status
from aftercommit.db.database import Fetch


@dataclass(frozen=True, slots=True)
class StartTime:
    """``elapsed_seconds`` is the time of the attempt that counts against its timeout; None: its clock stands."""

    task_id: UUID
    attempt: int
    worker: str
    elapsed_seconds: float | None


_SET: Final = f"""
    WITH free AS (
        SELECT t.id, a.elapsed_seconds
        FROM unnest($1::uuid[], $2::int[], $3::text[], $4::float8[]) AS a (id, attempt, worker, elapsed_seconds)
        JOIN aftercommit.tasks t ON t.id = a.id
        WHERE CASE WHEN t.status = '{Status.RUNNING}' THEN t.attempt = a.attempt AND t.worker = a.worker END
        ORDER BY t.id FOR NO KEY UPDATE OF t SKIP LOCKED
    )
    UPDATE aftercommit.tasks t SET started_at = now() - free.elapsed_seconds * interval '1 second'
    FROM free WHERE t.id = free.id
    RETURNING t.id
"""


async def set_start_times(fetch: Fetch, times: Sequence[StartTime]) -> set[UUID]:
    """Write the start times; returns the tasks whose time is written.

    The rescuer's overdue rule takes no task whose ``started_at`` is null. Fenced like an outcome. Locks the rows in id
    order, by primary key, and skips those that somebody else holds locked.
    """
    rows = await fetch(
        _SET,
        [time.task_id for time in times],
        [time.attempt for time in times],
        [time.worker for time in times],
        [time.elapsed_seconds for time in times],
    )
    return {row["id"] for row in rows}
