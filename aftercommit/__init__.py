"""Write handlers for Aftercommit.

::

    from aftercommit import Context, Fail, Retry, task

    @task("email.send", timeout_seconds=30, max_retries=8)
    async def send_email(to: str, subject: str, context: Context) -> dict[str, str]: ...

List the module in WORKER_MODULES; the worker finds every decorated function in it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from aftercommit.context import Context, ScheduleTick
    from aftercommit.errors import Fail, InvalidPayload, Retry, Snooze
    from aftercommit.handler import Handler, task
    from aftercommit.recurring import Cron, Every
    from aftercommit.retry_delays import Backoff, Delays

__version__ = "0.1.0"

__all__ = [
    "Backoff",
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
    "task",
]

_HOMES: Final = {
    "Backoff": "aftercommit.retry_delays",
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
    "task": "aftercommit.handler",
}


def __getattr__(name: str) -> Any:
    """Import a name at its first use: a health check or `make clean` needs none of them, nor pydantic."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
