"""What handlers tell of how far they are. It stands apart from the tasks, whose rows it would write anew each time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from aftercommit.db.database import Fetch


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an attempt is. ``fraction`` is from 0 to 1; None: nobody knows."""

    task_id: UUID
    attempt: int
    fraction: float | None
    message: str | None


_WRITE: Final = """
    INSERT INTO aftercommit.progress AS p (task_id, attempt, fraction, message)
    SELECT t.id, told.attempt, told.fraction, told.message
    FROM unnest($1::uuid[], $2::int[], $3::float8[], $4::text[]) AS told (task_id, attempt, fraction, message)
    JOIN aftercommit.tasks t ON t.id = told.task_id AND t.attempt = told.attempt
    ORDER BY t.id
    ON CONFLICT (task_id) DO UPDATE
        SET attempt = excluded.attempt, fraction = excluded.fraction, message = excluded.message, reported_at = now()
        WHERE p.attempt <= excluded.attempt
"""


async def write(fetch: Fetch, told: Sequence[Progress]) -> None:
    """Keep what was told last: one of each task. Nothing is kept of a task that was deleted, nor of an attempt after
    which another one began.

    Locks rows of ``progress`` only, in the order of the tasks' ids. Served by the primary keys.
    """
    await fetch(
        _WRITE,
        [each.task_id for each in told],
        [each.attempt for each in told],
        [each.fraction for each in told],
        [each.message for each in told],
    )
