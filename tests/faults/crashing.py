"""python -m tests.faults.crashing <boundary> <nth> <module>: a role that kills itself at a named boundary.

The product has no hook for this: the function at the boundary is replaced before the role starts.
"""

import importlib
import itertools
import os
import runpy
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aftercommit.core.errors import DatabaseUnavailable

STRUCK: Final = b"struck at the boundary\n"

Call = Callable[..., Any]
IsDue = Callable[[], bool]
"""Counts the calls; true at each nth, the first of which most do not outlive."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """Which role dies where: around the function or method ``owner``.``name``, in ``module``.

    At which call it does is drawn anew for each life, between ``smallest_nth`` and ``largest_nth``.
    """

    role: str
    module: str
    owner: str | None
    name: str
    wrap: Callable[[Call, IsDue], Call]
    smallest_nth: int
    largest_nth: int


def _before(original: Call, is_due: IsDue) -> Call:
    async def call(*args: Any, **kwargs: Any) -> Any:
        if is_due():
            _die()
        return await original(*args, **kwargs)

    return call


def _after(original: Call, is_due: IsDue) -> Call:
    async def call(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        if is_due():
            _die()
        return result

    return call


def _after_some(original: Call, is_due: IsDue) -> Call:
    """Where the function does something only now and then, and its result says whether it did."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        if result and is_due():
            _die()
        return result

    return call


def _before_report(original: Call, is_due: IsDue) -> Call:
    """Of ``Rescuer._report``: what it would tell of is committed."""

    def call(rescued: Any, found: Any) -> Any:
        if rescued and is_due():
            _die()
        return original(rescued, found)

    return staticmethod(call)


def _half_published(original: Call, is_due: IsDue) -> Call:
    """Of ``Publisher.publish``: half of the batch is confirmed, the other half was never sent."""

    async def call(publisher: Any, messages: Any) -> Any:
        if is_due():
            await original(publisher, messages[: len(messages) // 2])
            _die()
        return await original(publisher, messages)

    return call


def _answer_lost(original: Call, is_due: IsDue) -> Call:
    """The statement is committed, but nobody hears of it."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        if is_due():
            _mark()
            raise DatabaseUnavailable("the answer was lost")
        return result

    return call


def _answer_lost_while_stopping(original: Call, is_due: IsDue) -> Call:
    """The same, when the process has just been told to stop."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        if is_due():
            _mark()
            os.kill(os.getpid(), signal.SIGTERM)
            raise DatabaseUnavailable("the answer was lost")
        return result

    return call


BOUNDARIES: Final = {
    "relay-before-publish": Boundary("relay", "aftercommit.broker.publisher", "Publisher", "publish", _before, 2, 6),
    "relay-half-published": Boundary(
        "relay", "aftercommit.broker.publisher", "Publisher", "publish", _half_published, 2, 6
    ),
    "relay-between-confirm-and-delete": Boundary("relay", "aftercommit.db.outbox", None, "delete", _before, 2, 6),
    "relay-between-delete-and-commit": Boundary("relay", "aftercommit.db.outbox", None, "delete", _after, 2, 6),
    "worker-after-claim": Boundary("worker", "aftercommit.db.claims", None, "claim", _after, 2, 10),
    "worker-claim-unanswered": Boundary("worker", "aftercommit.db.claims", None, "claim", _answer_lost, 2, 10),
    "worker-claim-unanswered-while-stopping": Boundary(
        "worker", "aftercommit.db.claims", None, "claim", _answer_lost_while_stopping, 2, 10
    ),
    "worker-between-claim-and-acknowledge": Boundary(
        "worker", "aftercommit.broker.consumer", "Subscription", "_tell", _before, 2, 60
    ),
    "worker-between-effect-and-record": Boundary("worker", "aftercommit.db.record", None, "record", _before, 2, 10),
    "worker-between-record-and-commit": Boundary("worker", "aftercommit.db.record", None, "record", _after, 2, 10),
    "worker-after-record": Boundary("worker", "aftercommit.worker.recorder", "Recorder", "tick", _after, 2, 10),
    "scheduler-before-commit": Boundary("maintenance", "aftercommit.db.schedule", None, "send_due", _after_some, 1, 4),
    # Maintenance records nothing but what the rescuer found.
    "rescuer-before-commit": Boundary("maintenance", "aftercommit.db.record", None, "record", _after_some, 1, 2),
    "rescuer-after-commit": Boundary(
        "maintenance", "aftercommit.server.maintenance.rescuer", "Rescuer", "_report", _before_report, 1, 2
    ),
    "reconciler-before-commit": Boundary("maintenance", "aftercommit.db.reconcile", None, "resend", _after_some, 1, 1),
    "reconciler-after-commit": Boundary(
        "maintenance", "aftercommit.server.maintenance.reconciler", "Reconciler", "_reconcile", _after_some, 1, 1
    ),
    "api-before-commit": Boundary("api", "aftercommit.db.tasks", None, "submit", _before, 2, 60),
    "api-after-commit": Boundary("api", "aftercommit.db.tasks", None, "submit", _after, 2, 60),
}


def _mark() -> None:
    """Tell, in the role's log, that the boundary was reached: ``Fleet.strikes`` counts it."""
    os.write(sys.stderr.fileno(), STRUCK)


def _die() -> None:
    _mark()
    os.kill(os.getpid(), signal.SIGKILL)


def _at(nth: int) -> IsDue:
    calls = itertools.count(1)
    return lambda: next(calls) % nth == 0


def arm(boundary: Boundary, nth: int) -> None:
    """Replace the function at the boundary."""
    owner: Any = importlib.import_module(boundary.module)
    if boundary.owner is not None:
        owner = getattr(owner, boundary.owner)
    setattr(owner, boundary.name, boundary.wrap(getattr(owner, boundary.name), _at(nth)))


if __name__ == "__main__":
    _, name, nth, module = sys.argv
    arm(BOUNDARIES[name], int(nth))
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
