"""What a handler may know about the attempt that it runs in."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


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
