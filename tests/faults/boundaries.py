"""Where a role can be made to die: between which two steps, and at which function of it.

A boundary between a statement and its commit proves itself: Postgres is asked, on the same connection, whether the
transaction is still open, and the role dies only when the answer is what the boundary's name says.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aftercommit.core.errors import DatabaseUnavailable

STRUCK: Final = b"struck at the boundary\n"
UNDER_WAY_SECONDS: Final = 0.001

_OPEN: Final = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL AS open"
"""Whether this connection is in a transaction that has written something."""

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


def before(original: Call, is_due: IsDue) -> Call:
    async def call(*args: Any, **kwargs: Any) -> Any:
        if is_due():
            die()
        return await original(*args, **kwargs)

    return call


def before_some(original: Call, is_due: IsDue) -> Call:
    """Of a function of ``fetch`` and a sequence, which may be empty: then nothing is about to happen."""

    async def call(fetch: Any, some: Any, /, **kwargs: Any) -> Any:
        if some and is_due():
            die()
        return await original(fetch, some, **kwargs)

    return call


def after_some(original: Call, is_due: IsDue) -> Call:
    """Of a function that does something only now and then: its result says whether it did."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        if result and is_due():
            die()
        return result

    return call


def before_commit(original: Call, is_due: IsDue) -> Call:
    """Of a function of ``fetch``: it has written something, and that is not committed."""

    async def call(fetch: Any, /, *args: Any, **kwargs: Any) -> Any:
        result = await original(fetch, *args, **kwargs)
        if await _is_open(fetch) and is_due():
            die()
        return result

    return call


def after_commit(original: Call, is_due: IsDue) -> Call:
    """Of a function of ``fetch``: it has done something, and that is committed."""
    return _once_committed(original, is_due, die)


def answer_lost(original: Call, is_due: IsDue) -> Call:
    """It is committed, but nobody hears of it."""
    return _once_committed(original, is_due, _lose_answer)


def answer_lost_while_stopping(original: Call, is_due: IsDue) -> Call:
    """The same, when the process has just been told to stop."""
    return _once_committed(original, is_due, _lose_answer_and_stop)


def _once_committed(original: Call, is_due: IsDue, strike: Callable[[], None]) -> Call:
    async def call(fetch: Any, /, *args: Any, **kwargs: Any) -> Any:
        result = await original(fetch, *args, **kwargs)
        if result and not await _is_open(fetch) and is_due():
            strike()
        return result

    return call


async def _is_open(fetch: Any) -> bool:
    (row,) = await fetch(_OPEN)
    return bool(row["open"])


def under_way(original: Call, is_due: IsDue) -> Call:
    """The statement was sent and is not answered: whether it takes effect is open, and it may do so after the death."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        answer = asyncio.ensure_future(original(*args, **kwargs))
        try:
            await asyncio.wait([answer], timeout=UNDER_WAY_SECONDS)
            if not answer.done() and is_due():
                die()
            return await answer
        finally:
            answer.cancel()

    return call


def before_report(original: Call, is_due: IsDue) -> Call:
    """Of ``Rescuer._report``: what it would tell of is committed."""

    def call(rescued: Any, found: Any) -> Any:
        if rescued and is_due():
            die()
        return original(rescued, found)

    return staticmethod(call)


def before_call(original: Call, is_due: IsDue) -> Call:
    """Of a function that waits for nothing."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if is_due():
            die()
        return original(*args, **kwargs)

    return call


def half_published(original: Call, is_due: IsDue) -> Call:
    """Of ``Publisher.publish``: half of the batch is confirmed, the other half was never sent."""

    async def call(publisher: Any, messages: Any) -> Any:
        if is_due():
            await original(publisher, messages[: len(messages) // 2])
            die()
        return await original(publisher, messages)

    return call


_PUBLISH: Final = ("relay", "aftercommit.broker.publisher", "Publisher", "publish")
_DELETE: Final = ("relay", "aftercommit.db.outbox", None, "delete")
_CLAIM: Final = ("worker", "aftercommit.db.claims", None, "claim")
_RECORD: Final = ("worker", "aftercommit.db.record", None, "record")
_RECORD_AND_CLAIM: Final = ("worker", "aftercommit.db.record_and_claim", None, "record_and_claim")
_SUBMIT: Final = ("api", "aftercommit.db.submit", None, "submit")
_EAGER_RELAY: Final = ("api", "aftercommit.server.relay.eager_relay", "EagerRelay")
_RESCUER: Final = "aftercommit.server.maintenance.rescuer"
_RECONCILER: Final = "aftercommit.server.maintenance.reconciler"

BOUNDARIES: Final = {
    "relay-before-publish": Boundary(*_PUBLISH, before, 2, 6),
    "relay-half-published": Boundary(*_PUBLISH, half_published, 2, 6),
    "relay-between-confirm-and-delete": Boundary(*_DELETE, before, 2, 6),
    "relay-between-delete-and-commit": Boundary(*_DELETE, before_commit, 2, 6),
    "worker-after-claim": Boundary(*_CLAIM, after_commit, 2, 10),
    "worker-claim-unanswered": Boundary(*_CLAIM, answer_lost, 2, 10),
    "worker-claim-unanswered-while-stopping": Boundary(*_CLAIM, answer_lost_while_stopping, 2, 10),
    "worker-between-claim-and-acknowledge": Boundary(
        "worker", "aftercommit.broker.acknowledger", "Acknowledger", "_send_pending", before, 2, 60
    ),
    "worker-between-effect-and-record": Boundary(*_RECORD, before_some, 2, 10),
    "worker-while-recording": Boundary(*_RECORD, under_way, 2, 10),
    # Outcomes are recorded by statements that commit by themselves, but for those of context.transaction().
    "worker-between-record-and-commit": Boundary(
        "worker", "aftercommit.db.record", None, "record_own", before_commit, 2, 6
    ),
    "worker-after-record": Boundary(*_RECORD, after_commit, 2, 10),
    # A busy worker records successes with its next claim.
    "worker-before-record-and-claim": Boundary(*_RECORD_AND_CLAIM, before, 2, 10),
    "worker-while-recording-and-claiming": Boundary(*_RECORD_AND_CLAIM, under_way, 2, 10),
    "worker-after-record-and-claim": Boundary(*_RECORD_AND_CLAIM, after_commit, 2, 10),
    "worker-record-and-claim-unanswered": Boundary(*_RECORD_AND_CLAIM, answer_lost, 2, 10),
    "worker-record-and-claim-unanswered-while-stopping": Boundary(
        *_RECORD_AND_CLAIM, answer_lost_while_stopping, 2, 10
    ),
    "scheduler-after-commit": Boundary("maintenance", "aftercommit.db.schedule", None, "send_due", after_commit, 1, 4),
    "ticker-before-commit": Boundary(
        "maintenance", "aftercommit.db.schedule_runs", None, "advance", before_commit, 2, 8
    ),
    # Maintenance records nothing but what the rescuer found.
    "rescuer-before-commit": Boundary("maintenance", "aftercommit.db.record", None, "record", before_commit, 1, 1),
    "rescuer-after-commit": Boundary("maintenance", _RESCUER, "Rescuer", "_report", before_report, 1, 1),
    "reconciler-before-commit": Boundary(
        "maintenance", "aftercommit.db.reconcile", None, "resend", before_commit, 1, 1
    ),
    "reconciler-after-commit": Boundary("maintenance", _RECONCILER, "Reconciler", "_reconcile", after_some, 1, 1),
    "api-before-commit": Boundary(*_SUBMIT, before, 2, 60),
    "api-while-committing": Boundary(*_SUBMIT, under_way, 2, 60),
    "api-after-commit": Boundary(*_SUBMIT, after_commit, 2, 60),
    "api-between-commit-and-publish": Boundary(*_EAGER_RELAY, "committed", before_call, 2, 60),
    "api-between-confirm-and-delete": Boundary(*_EAGER_RELAY, "_settled", before_call, 2, 60),
}


def _mark() -> None:
    """Tell, in the role's log, that the boundary was reached: ``Fleet.strikes`` counts it."""
    os.write(sys.stderr.fileno(), STRUCK)


def die() -> None:
    _mark()
    os.kill(os.getpid(), signal.SIGKILL)


def _lose_answer() -> None:
    _mark()
    raise DatabaseUnavailable("the answer was lost")


def _lose_answer_and_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    _lose_answer()
