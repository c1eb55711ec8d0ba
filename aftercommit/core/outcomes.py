"""How an attempt ended: decided once, and written as it is."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal
from uuid import UUID

from aftercommit.core.retries import Delay
from aftercommit.core.states import Event


class CancelReason(StrEnum):
    """Why a worker cancels an attempt that it runs. The reason, not the cancelling, decides the outcome."""

    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease_lost"
    REQUESTED = "requested"
    EXPIRED = "expired"


Ending = Literal[Event.SUCCEED, Event.RETRY, Event.FAIL, Event.RELEASE, Event.SNOOZE, Event.STOP, Event.CUT]


@dataclass(slots=True, kw_only=True)  # not frozen: making one would cost as much as an asyncio task
class Outcome:
    """The end of one attempt. ``result`` and ``error`` are JSON texts.

    A retry and a snooze carry their ``delay``, a failure the ``reason`` that its dead letter gives.
    """

    task_id: UUID
    attempt: int
    worker: str
    ending: Ending
    result: str | None = None
    error: str | None = None
    delay: Delay | None = None
    reason: str | None = None
