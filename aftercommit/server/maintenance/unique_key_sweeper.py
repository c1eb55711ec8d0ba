"""Deletes unique keys that nobody will hold any more, a batch at a time: what ends a task leaves its key alone."""

from collections.abc import Sequence
from typing import Final

import structlog

from aftercommit.db import unique_key_sweep
from aftercommit.db.database import Database

log = structlog.get_logger(__name__)

BATCH: Final = 1_000
"""Keys that one statement looks at."""

REST_SECONDS: Final = 0.2
"""After a batch of which most are held: keys of a million tasks for next year cost little, each time anew."""


class UniqueKeySweeper:
    """Walks over the keys, again and again. Any number may run: a key that another one deletes is passed over."""

    def __init__(self, database: Database, *, interval_seconds: float) -> None:
        self._database = database
        self._interval_seconds = interval_seconds
        self._after = b""

    async def run_once(self) -> float:
        """Sweep a batch. Returns the seconds until the next: the interval at the end of the keys."""
        stretch = await unique_key_sweep.find(self._database.fetch, after=self._after, limit=BATCH)
        deleted = await self._delete(stretch.found) if stretch.found else 0
        if stretch.looked < BATCH or stretch.last_key is None:
            self._after = b""
            return self._interval_seconds
        self._after = stretch.last_key
        return 0 if deleted > BATCH // 2 else REST_SECONDS

    async def _delete(self, keys: Sequence[bytes]) -> int:
        """Lock the keys in one statement and delete them in the next, which sees what was committed meanwhile."""
        async with self._database.transaction() as fetch:
            locked = await unique_key_sweep.lock(fetch, keys)
            deleted = await unique_key_sweep.delete(fetch, locked) if locked else 0
        if deleted:
            log.info("unique_keys_deleted", count=deleted)
        return deleted
