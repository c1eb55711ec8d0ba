"""Write handlers for Aftercommit, and call it.

::

    from aftercommit import Context, Fail, Retry, task

    @task("email.send", timeout_seconds=30, max_retries=8)
    async def send_email(to: str, subject: str, context: Context) -> dict[str, str]: ...

List the module in WORKER_MODULES; the worker finds every decorated function in it. ``Client`` and ``AsyncClient``
submit tasks.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from aftercommit.client import AsyncClient, Client
    from aftercommit.context import Context, ScheduleTick
    from aftercommit.errors import Fail, InvalidPayload, Retry, Snooze
    from aftercommit.handler import Handler, task
    from aftercommit.recurring import Cron, Every
    from aftercommit.retry_delays import Backoff, Delays
    from aftercommit.task_request import TaskOptions, TaskRequest

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Backoff",
    "Client",
    "Context",
    "Cron",
    "Delays",
    "Every",
    "Fail",
    "Handler",
    "InvalidPayload",
    "Retry",
    "ScheduleTick",
    "Snooze",
    "TaskOptions",
    "TaskRequest",
    "task",
]

_HOMES: Final = {
    "AsyncClient": "aftercommit.client",
    "Backoff": "aftercommit.retry_delays",
    "Client": "aftercommit.client",
    "Context": "aftercommit.context",
    "Cron": "aftercommit.recurring",
    "Delays": "aftercommit.retry_delays",
    "Every": "aftercommit.recurring",
    "Fail": "aftercommit.errors",
    "Handler": "aftercommit.handler",
    "InvalidPayload": "aftercommit.errors",
    "Retry": "aftercommit.errors",
    "ScheduleTick": "aftercommit.context",
    "Snooze": "aftercommit.errors",
    "TaskOptions": "aftercommit.task_request",
    "TaskRequest": "aftercommit.task_request",
    "task": "aftercommit.handler",
}


def __getattr__(name: str) -> Any:
    """Import a name at its first use: a health check or `make clean` needs none of them, nor pydantic or httpx."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
