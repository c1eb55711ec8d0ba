"""What a handler may know about the attempt that it runs in."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


LONGEST_MESSAGE: Final = 500


def _to_nobody(fraction: float | None, message: str | None) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleTick:
    """What a task stands for that a schedule made.

    ``name`` is the schedule's. ``tick`` is the moment that it names (UTC), which may be long ago; that of a ``trigger``
    is when it was asked for. ``folded`` is how many earlier ticks were missed, for which no other task was made.
    ``kind`` is ``tick``, ``trigger`` or ``backfill``.
    """

    name: str
    tick: datetime
    folded: int
    kind: str


@dataclass(slots=True, kw_only=True, eq=False)
class Context:
    """Given to a handler that has a parameter annotated ``Context``.

    ``attempt`` grows by one with each execution. ``expires_at`` is the deadline of the task (UTC), None when it has
    none. ``deadline`` is when this attempt is cut: at its timeout or at ``expires_at``, whichever comes first. The
    timeout moves by the time that ``transaction`` waits for a free connection. ``logger`` is a structlog logger that
    carries task_id, type, queue and attempt.

    ``cancelled`` becomes True when the attempt is cancelled: on request, at its timeout or deadline, or because its
    worker stops or lost its lease. An async handler gets CancelledError then. A sync handler has to look: whatever it
    returns afterwards is not kept, so it should stop soon. Safe to read from any thread.
    """

    task_id: UUID
    type: str
    queue: str
    priority: str
    attempt: int
    tags: tuple[str, ...]
    created_at: datetime
    deadline: datetime
    logger: Any
    transaction: "Callable[[], AbstractAsyncContextManager[AsyncSession]]"
    """Once per attempt, in an async handler: ``async with context.transaction() as session``.

    A session on the service's database whose commit is the task's completion. It is committed when the handler
    returns; if the handler fails, or the task was cancelled or given to another worker meanwhile, nothing of it is
    kept. So its writes happen exactly once. Use ``session.flush()`` and ``session.begin_nested()``: ``commit``,
    ``rollback``, ``begin`` and ``close`` are refused with RuntimeError.

    A worker has WORKER_TRANSACTION_POOL connections for all its handlers; waiting for a free one does not count against
    the timeout. A statement may take WORKER_TRANSACTION_STATEMENT_SECONDS.
    """
    expires_at: datetime | None = None
    cancelled: bool = False
    schedule: ScheduleTick | None = None
    """Set for a task that a schedule made."""

    report_progress: "Callable[[float | None, str | None], None]" = _to_nobody
    """What ``progress`` calls; by default nothing becomes of it."""

    def progress(self, fraction: float | None, message: str | None = None) -> None:
        """Tell how far the attempt is: ``fraction`` from 0 to 1, None where nobody knows, and what it is at.

        From async code, from threads and from isolated processes, as often as you like: a call returns at once, and the
        latest one is written about twice a second. ``message`` is cut at 500 characters. Raises ValueError.
        """
        if fraction is not None and (
            isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 <= fraction <= 1
        ):
            raise ValueError(f"fraction is {fraction!r}: give a number from 0 to 1, or None")
        if message is not None and not isinstance(message, str):
            raise ValueError(f"message is {message!r}: give a text, or None")
        self.report_progress(fraction, message[:LONGEST_MESSAGE] if message is not None else None)
