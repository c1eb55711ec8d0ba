"""Finds the rows that the relay's rounds pass by, and those whose wake-up call was lost.

A round reads each destination after its read cursor. A transaction that took an id early and commits late leaves a row
behind the cursor: such a straggler gets a new id, at the end.
"""

from collections.abc import Mapping
from typing import Final

from aftercommit.db import outbox
from aftercommit.db.database import Fetch

SWEEP_SECONDS: Final = 300.0
"""What a sweep may take. It reads past all that a long transaction keeps: tens of millions of entries after an hour."""

PATIENCE: Final = 20
LONGEST_REST_SECONDS: Final = 60.0
"""Sweeps take at most one part in PATIENCE of the time, unless they would then come more seldom than this."""

BATCH: Final = 20_000


async def move_stragglers(fetch: Fetch, first_ids: Mapping[str, int], cursors: Mapping[str, int]) -> bool:
    """Give new ids to the rows that wait behind ``cursors``; ``first_ids`` is the first waiting row by destination.

    The cursors are those from before ``first_ids`` was read: what was published meanwhile is not passed by. Returns
    whether there may be more.
    """
    passed_by = {
        destination: cursors[destination]
        for destination, first_id in first_ids.items()
        if first_id <= cursors.get(destination, 0)
    }
    return bool(passed_by) and await outbox.move_to_end(fetch, passed_by, limit=BATCH) >= BATCH


def rest_seconds(sweep_seconds: float) -> float:
    """How long to leave the outbox alone after a sweep that took ``sweep_seconds``."""
    return min(sweep_seconds * PATIENCE, LONGEST_REST_SECONDS)
