"""The kinds of tasks that a load is made of, and how each must end."""

from enum import StrEnum
from typing import Final

from aftercommit import Context

HAS_TRANSACTIONS: Final = hasattr(Context, "transaction")


class Kind(StrEnum):
    QUICK = "fault.quick"
    SLEEP = "fault.sleep"
    SYNC = "fault.sync"
    FLAKY = "fault.flaky"
    BROKEN = "fault.broken"
    HOPELESS = "fault.hopeless"
    TRANSACTIONAL = "fault.transactional"
    ISOLATED = "fault.isolated"
    """Not in every load: each costs a process."""
    SNOOZING = "fault.snoozing"
    DEADLINE = "fault.deadline"
    """Not in every load: it may expire."""
    COUNTED = "fault.counted"
    """Not in every load: each opens a connection."""

    @property
    def endings(self) -> frozenset[str]:
        """The statuses that it may end in, unless it is cancelled."""
        if self is Kind.DEADLINE:
            return frozenset({"succeeded", "expired"})
        return frozenset({"failed" if self in (Kind.BROKEN, Kind.HOPELESS) else "succeeded"})


SHARES: Final = {
    Kind.QUICK: 46,
    Kind.SLEEP: 22,
    Kind.SYNC: 10,
    Kind.FLAKY: 8,
    Kind.BROKEN: 2,
    Kind.HOPELESS: 2,
} | ({Kind.TRANSACTIONAL: 10} if HAS_TRANSACTIONS else {})
