"""NOTIFY: how processes wake each other. A lost notification costs one polling interval, nothing more."""

from collections.abc import Iterable
from typing import Final

from aftercommit.db.database import Fetch

OUTBOX_CHANNEL: Final = "aftercommit_outbox"
"""Outbox rows were committed."""

DUE_CHANNEL: Final = "aftercommit_due"
"""Something was committed that falls due soon."""

CANCEL_CHANNEL: Final = "aftercommit_cancel"
"""Running tasks were marked, to be cancelled by their workers."""

TYPES_CHANNEL: Final = "aftercommit_types"
"""Workers declared types that are new, or other than before."""

QUEUES_CHANNEL: Final = "aftercommit_queues"
"""A queue was made, changed, paused or deleted."""

PARKED_CHANNEL: Final = "aftercommit_parked"
"""Tasks wait for workers that know their types."""

_NOTIFY: Final = "SELECT pg_notify(channel, '') FROM unnest($1::text[]) AS channel"
_PROBE: Final = "SELECT 1"


async def notify(fetch: Fetch, channels: Iterable[str]) -> None:
    """Wake who listens on these channels. Costs no sync: nothing else is in its transaction."""
    await fetch(_NOTIFY, list(channels))


async def probe(fetch: Fetch) -> None:
    """Raises when a listening connection is dead: without a statement nobody would notice."""
    await fetch(_PROBE)
