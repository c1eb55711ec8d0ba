"""NOTIFY: how processes wake each other. A lost notification costs one polling interval, nothing more."""

from typing import Final

from aftercommit.db.database import Fetch

OUTBOX_CHANNEL: Final = "aftercommit_outbox"

_NOTIFY_OUTBOX: Final = f"NOTIFY {OUTBOX_CHANNEL}"
_PROBE: Final = "SELECT 1"


async def notify_outbox(fetch: Fetch) -> None:
    """Tell the relays that outbox rows were committed."""
    await fetch(_NOTIFY_OUTBOX)


async def probe(fetch: Fetch) -> None:
    """Find out whether a listening connection still lives."""
    await fetch(_PROBE)
