"""Takes over the rows that the process that committed them did not publish in time: it died, or its broker is away."""

from typing import Final

from aftercommit.db import eager_rows
from aftercommit.db.database import Fetch

AT_ONCE: Final = 1_000
LAPSED_WITHIN_SECONDS: Final = 60.0
EVER_SECONDS: Final = 1e9


class Adoption:
    """Looks at most every ``interval_seconds``. Times are seconds on the caller's clock."""

    def __init__(self, *, interval_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self._looked_at: float | None = None

    async def look(self, fetch: Fetch, *, now: float) -> int:
        """Give lapsed rows to the relays; how many."""
        if self._looked_at is not None and now - self._looked_at < self._interval_seconds:
            return 0
        # The first look takes what lapsed while there was no relay.
        within = EVER_SECONDS if self._looked_at is None else LAPSED_WITHIN_SECONDS
        adopted = await eager_rows.adopt(fetch, lapsed_within_seconds=within, limit=AT_ONCE)
        if adopted < AT_ONCE:
            self._looked_at = now
        return adopted

    async def look_back(self, fetch: Fetch) -> int:
        """The same for all that ever lapsed, up to AT_ONCE: a row that was committed long after its statement began."""
        return await eager_rows.adopt(fetch, lapsed_within_seconds=EVER_SECONDS, limit=AT_ONCE)
