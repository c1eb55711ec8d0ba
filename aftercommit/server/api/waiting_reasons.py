"""Why a task waits, in the words of an answer: all that stands between it and its start, the first thing first."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from aftercommit.core.states import Status
from aftercommit.db.waiting import MOST_BEFORE, Facts
from aftercommit.server.api.readiness import NOT_CHECKED, UP
from aftercommit.server.api.schemas import Output


class WaitingReason(StrEnum):
    DUE = "due"
    RETRY = "retry"
    PARKED = "parked"
    BROKER = "broker"
    OUTBOX = "outbox"
    PAUSED = "paused"
    DELETING = "deleting"
    NO_WORKER = "no_worker"
    NO_HANDLER = "no_handler"
    MAX_RUNNING = "max_running"
    RATE = "rate"
    TASKS_BEFORE = "tasks_before"
    WORKERS_BUSY = "workers_busy"
    STARTING = "starting"


class WaitingForOut(Output):
    reason: WaitingReason
    detail: str = Field(description="The same for people", examples=["emails is paused since 12:00 by Ada"])
    since: datetime | None = Field(default=None, description="Since when, where that is known")
    until: datetime | None = Field(default=None, description="Until when, where that is known")


def waiting_for(facts: Facts, *, broker: str) -> list[WaitingForOut]:
    """The reasons, at least one. ``broker`` is RabbitMQ's state."""
    if reasons := list(_times(facts)):
        return reasons
    reasons = [*_way(facts, broker), *_closed(facts), *_workers(facts), *_limits(facts)]
    return reasons or [*_turn(facts)]


def _times(facts: Facts) -> Iterator[WaitingForOut]:
    if facts.due_at is None or facts.due_at <= facts.now:
        return
    if facts.status is Status.SCHEDULED:
        yield WaitingForOut(
            reason=WaitingReason.DUE, detail=f"it is due at {facts.due_at:%F %T %Z}", until=facts.due_at
        )
    else:
        told = f"its next attempt is due at {facts.due_at:%F %T %Z}"
        yield WaitingForOut(reason=WaitingReason.RETRY, detail=told, until=facts.due_at)


def _way(facts: Facts, broker: str) -> Iterator[WaitingForOut]:
    """What keeps its message from being in RabbitMQ."""
    if facts.outbox_failed is not None:
        yield WaitingForOut(
            reason=WaitingReason.PARKED,
            detail=f"its message is parked: {facts.outbox_failed}. POST /v1/outbox/requeue sends it again",
            since=facts.outbox_since,
        )
        return
    if broker not in (UP, NOT_CHECKED):
        yield WaitingForOut(reason=WaitingReason.BROKER, detail=f"RabbitMQ is away: {broker}")
    if facts.outbox_since is not None:
        yield WaitingForOut(
            reason=WaitingReason.OUTBOX,
            detail=f"it is in the outbox since {facts.outbox_since:%F %T %Z}",
            since=facts.outbox_since,
        )
    elif not facts.enqueued:
        yield WaitingForOut(reason=WaitingReason.OUTBOX, detail="it is due, and the scheduler sends it next")


def _closed(facts: Facts) -> Iterator[WaitingForOut]:
    if facts.deleting_at is not None:
        yield WaitingForOut(
            reason=WaitingReason.DELETING, detail=f"{facts.queue} is being deleted", since=facts.deleting_at
        )
    if facts.paused_at is not None:
        by = f" by {facts.paused_by}" if facts.paused_by else ""
        yield WaitingForOut(
            reason=WaitingReason.PAUSED,
            detail=f"{facts.queue} is paused since {facts.paused_at:%F %T %Z}{by}",
            since=facts.paused_at,
        )


def _workers(facts: Facts) -> Iterator[WaitingForOut]:
    name = f"{facts.queue}.{facts.priority}"
    if not facts.serving:
        yield WaitingForOut(reason=WaitingReason.NO_WORKER, detail=f"no worker serves {name}")
    elif not facts.knowing:
        yield WaitingForOut(
            reason=WaitingReason.NO_HANDLER, detail=f"no worker that serves {name} has a handler for {facts.type}"
        )


def _limits(facts: Facts) -> Iterator[WaitingForOut]:
    used = sum(facts.used_by.values())
    if facts.max_running is not None and used >= facts.max_running:
        by = ", ".join(f"{worker} ({count})" for worker, count in list(facts.used_by.items())[:10])
        yield WaitingForOut(
            reason=WaitingReason.MAX_RUNNING,
            detail=f"{used} of {facts.max_running} tasks that {facts.queue} may run at a time run now, on {by}",
        )
    if facts.rate_per_second is not None and (facts.seconds_until_token or 0) > 0:
        until = facts.now + timedelta(seconds=facts.seconds_until_token or 0)
        yield WaitingForOut(
            reason=WaitingReason.RATE,
            detail=f"{facts.queue} starts {facts.rate_per_second:g} tasks a second, the next at {until:%F %T %Z}",
            until=until,
        )


def _turn(facts: Facts) -> Iterator[WaitingForOut]:
    """Nothing is in its way but others."""
    if facts.before:
        count = f"over {MOST_BEFORE}" if facts.before >= MOST_BEFORE else str(facts.before)
        yield WaitingForOut(
            reason=WaitingReason.TASKS_BEFORE,
            detail=f"{count} unfinished tasks of {facts.queue}.{facts.priority} came before it; those that run count",
        )
    elif facts.free_slots == 0:
        yield WaitingForOut(
            reason=WaitingReason.WORKERS_BUSY, detail="every slot of the workers that serve it is taken"
        )
    else:
        yield WaitingForOut(reason=WaitingReason.STARTING, detail="it is on its way to a worker")
