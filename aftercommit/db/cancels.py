"""The statement by which a worker learns which of the tasks that it runs are to be cancelled."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from aftercommit.core.features import Feature
from aftercommit.db.database import Fetch
from aftercommit.db.record import STILL_RUNS, AttemptKey

_FIND_MARKED: Final = f"""
    SELECT t.id, t.attempt FROM unnest($1::uuid[], $2::int[], $3::text[]) AS o (id, attempt, worker)
    JOIN aftercommit.tasks t ON t.id = o.id
    WHERE {STILL_RUNS} AND t.features & {Feature.CANCELLING:d} <> 0
"""


async def find_marked(fetch: Fetch, attempts: Sequence[tuple[UUID, int, str]]) -> list[AttemptKey]:
    """Those of ``attempts`` (task, attempt, worker) that still run and are to be cancelled.

    Locks nothing; reads by primary key.
    """
    ids, numbers, workers = zip(*attempts, strict=True)
    rows = await fetch(_FIND_MARKED, ids, numbers, workers)
    return [(row["id"], row["attempt"]) for row in rows]
