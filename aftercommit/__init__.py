"""Write handlers for Aftercommit.

::

    from aftercommit import Context, Fail, Retry, task

    @task("email.send", timeout_seconds=30, max_retries=8)
    async def send_email(to: str, subject: str, context: Context) -> dict[str, str]: ...

List the module in WORKER_MODULES; the worker finds every decorated function in it.
"""

from aftercommit.context import Context
from aftercommit.errors import Fail, InvalidPayload, Retry
from aftercommit.handler import Handler, task

__all__ = ["Context", "Fail", "Handler", "InvalidPayload", "Retry", "task"]
