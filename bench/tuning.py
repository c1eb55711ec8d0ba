"""Settings that scenarios give our roles; everything else is at its default. Pure, so that a report can name them."""

from collections.abc import Mapping
from typing import Final

FOR_SHORT_TASKS: Final = {"WORKER_CONCURRENCY": "1000", "WORKER_PREFETCH": "500", "OUTBOX_BATCH_SIZE": "2000"}
"""What documents/explanation/performance.md advises for them; the peers are set by their own documentation."""

HELD_WORKERS: Final = {"WORKER_LEASE_SECONDS": "300"}
"""So that workers may be held while a backlog is made: nobody may take them for lost."""


def told(settings: Mapping[str, str]) -> str:
    """As ``NAME=value``, in Markdown; the defaults when there are none."""
    named = ", ".join(f"`{name}={value}`" for name, value in settings.items())
    return f"{named}, else the defaults" if named else "the defaults"
