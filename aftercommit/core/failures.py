"""Errors as ``tasks.error`` and the attempts keep them: JSON text of type, message and traceback. Pure."""

import traceback
from typing import Final

from aftercommit.core import json_text

WORKER_LOST: Final = "WorkerLost"
"""The type of error of an attempt that was lost with its worker: the first of its task."""

UNKNOWN_TYPE: Final = "UnknownType"
"""The type of error of a task whose type the workers that looked at it do not know."""

LOST_AGAIN: Final = "WorkerLostAgain"
OVERDUE: Final = "Overdue"
SUSPICIOUS: Final = (LOST_AGAIN, OVERDUE, "ProcessDied", "ProcessStuck")
"""After these errors a task may be what takes its workers down: its next attempt has a process of its own."""

CANCELLED: Final = "Cancelled"
EXPIRED: Final = "Expired"
"""The types of error of tasks that ended without having failed."""

LONGEST_MESSAGE: Final = 4_000
LONGEST_TRACEBACK: Final = 16_000


def dump(kind: str, message: str, lines: str | None = None) -> str:
    """An error as JSON text, cut to what is worth keeping and cleaned of what Postgres cannot store."""
    return json_text.dump(
        {
            "type": json_text.storable(kind),
            "message": json_text.storable(message[:LONGEST_MESSAGE]),
            "traceback": json_text.storable(lines) if lines is not None else None,
        }
    )


def dump_exception(error: BaseException) -> str:
    lines = "".join(traceback.format_exception(error))
    # The end of a traceback is what matters.
    return dump(type(error).__name__, _text(error), lines[-LONGEST_TRACEBACK:])


def dump_briefly(error: BaseException) -> str:
    """Without its traceback: for an exception that is no fault."""
    return dump(type(error).__name__, _text(error))


def summary(error: BaseException) -> str:
    """An exception in one line, for logs and dead letters."""
    return json_text.storable(f"{type(error).__name__}: {_text(error)}"[:LONGEST_MESSAGE])


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # a user's exception class may fail at that
        return "(the exception could not be put into words)"
