"""What a handler may know about the attempt it runs in."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Given to a handler that has a parameter annotated ``Context``.

    ``attempt`` grows by one with each execution; ``deadline`` is when this attempt's timeout strikes (UTC);
    ``logger`` is a structlog logger that carries task_id, type, queue and attempt.
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
    returns; if the handler fails, or the task was given to another worker meanwhile, nothing of it is kept. So its
    writes happen exactly once.
    """
