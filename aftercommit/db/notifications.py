"""NOTIFY: how processes wake each other. A lost notification costs one polling interval, nothing more."""

from typing import Final

from aftercommit.db.database import Fetch

OUTBOX_CHANNEL: Final = "aftercommit_outbox"

_NOTIFY_OUTBOX: Final = f"NOTIFY {OUTBOX_CHANNEL}"
_PROBE: Final = "SELECT 1"


async def notify_outbox(fetch: Fetch) -> None:
    """Tell the relays that outbox rows were committed. Costs no sync: nothing else is in its transaction."""
    await fetch(_NOTIFY_OUTBOX)


async def probe(fetch: Fetch) -> None:
    """Raises when a listening connection is dead: without a statement nobody would notice."""
    await fetch(_PROBE)
