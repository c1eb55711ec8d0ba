"""Looks for rows that the relay's rounds do not see, and for those whose wake-up call was lost."""

import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from aftercommit.core.errors import DatabaseUnavailable
from aftercommit.db import outbox
from aftercommit.db.database import DatabaseConnection
from aftercommit.server.relay.read_cursors import ReadCursors

log = structlog.get_logger(__name__)

SWEEP_SECONDS: Final = 300.0
"""What a look may take. It reads past all that a long transaction keeps: tens of millions of entries after an hour."""

PATIENCE: Final = 20
LONGEST_REST_SECONDS: Final = 60.0
"""A look takes at most one part in PATIENCE of the time, unless it would then come more seldom than this."""

BATCH: Final = 20_000


class StragglerSweep:
    """On a connection of its own, so that no round waits for a look. Rounds begin with its first one."""

    def __init__(
        self,
        connection: DatabaseConnection,
        cursors: ReadCursors,
        *,
        destinations: Sequence[str],
        wake: Callable[[], None],
        poll_seconds: float,
    ) -> None:
        """``destinations``: those to read whether or not anything waits for them."""
        self._connection = connection
        self._cursors = cursors
        self._destinations = destinations
        self._wake = wake
        self._poll_seconds = poll_seconds

    async def tick(self) -> float:
        """One look. A failed one rests as long as one that did not."""
        began_at = time.monotonic()
        try:
            more = await self._look()
        except DatabaseUnavailable as error:
            log.warning("straggler_sweep_failed", error=f"{error}: {error.__cause__}")
            more = False
        rest = min((time.monotonic() - began_at) * PATIENCE, LONGEST_REST_SECONDS)
        return 0 if more else max(rest, self._poll_seconds)

    async def _look(self) -> bool:
        """Whether there may be more rows to move."""
        last_id = await outbox.last_id(self._connection.fetch)
        self._cursors.cap(last_id)
        cursors = self._cursors.all()
        waiting = await outbox.first_waiting(self._connection.fetch)
        for destination, row_id in waiting:
            self._cursors.begin([destination], row_id - 1)
        self._cursors.begin(self._destinations, last_id)
        # By the cursors of before: what was published while the look was under way is not hidden.
        hidden = {
            destination: cursors[destination]
            for destination, row_id in waiting
            if row_id <= cursors.get(destination, 0)
        }
        moved = await outbox.move_to_end(self._connection.fetch, hidden, limit=BATCH) if hidden else 0
        if waiting:
            self._wake()
        return moved >= BATCH
