"""Handlers of a shop. In the image their folder is /handlers, and WORKER_MODULES=shop names this module."""

import time
from email.utils import parseaddr

from aftercommit import Context, Fail, Retry, task


@task("order.confirm", timeout_seconds=30, max_retries=5)
async def confirm(order: int, email: str, context: Context) -> dict[str, str]:
    """The payload's keys are the parameters; one that does not fit fails the task with the field's name."""
    if "@" not in parseaddr(email)[1]:
        raise Fail(f"{email!r} is no address")
    context.logger.info("confirmation_sent", order=order)
    return {"sent_to": email, "key": str(context.task_id)}


@task("order.invoice")
def invoice(order: int, context: Context, printer_comes_back_at_attempt: int = 1) -> str:
    """A plain function runs in a thread, so it may block."""
    if context.attempt < printer_comes_back_at_attempt:
        raise Retry("the printer is out of paper", after=1)
    time.sleep(0.1)  # stands for the printer, which blocks
    return f"invoice-{order}.pdf"
