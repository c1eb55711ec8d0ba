"""The states of a task and the legal transitions. Pure; the statements in ``db`` take their guards from here.

::

    scheduled ──due──▶ queued ──claim──▶ running ──▶ succeeded
        │                │                  ├──▶ retrying ──claim──▶ running …
        │                │                  ├──▶ failed
        └──┬─────────────┴──────────────────┴──▶ cancelled   expired
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Status(StrEnum):
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Event(StrEnum):
    """What moves a task. ``release`` hands an attempt back uncharged, ``snooze`` too, for later; ``resubmit`` is an
    operator's retry. A running task whose code has stopped is ended by ``stop`` after a cancel, and by ``cut`` after
    its deadline; ``cancel`` and ``expire`` end one that waits. A later submit with its unique key may ``replace`` a
    waiting task, to run at once, or ``postpone`` it, to run later. A task whose type no worker knew for too long is
    ended by ``give_up``."""

    FALL_DUE = "fall_due"
    RUN_NOW = "run_now"
    RESCHEDULE = "reschedule"
    CLAIM = "claim"
    SUCCEED = "succeed"
    RETRY = "retry"
    FAIL = "fail"
    RELEASE = "release"
    SNOOZE = "snooze"
    STOP = "stop"
    CUT = "cut"
    CANCEL = "cancel"
    EXPIRE = "expire"
    COMPLETE = "complete"
    RESUBMIT = "resubmit"
    REPLACE = "replace"
    POSTPONE = "postpone"
    GIVE_UP = "give_up"


WAITING: Final = (Status.SCHEDULED, Status.QUEUED, Status.RETRYING)
UNFINISHED: Final = (*WAITING, Status.RUNNING)
FINAL: Final = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED)

SOURCES: Final[Mapping[Event, tuple[Status, ...]]] = MappingProxyType(
    {
        Event.FALL_DUE: (Status.SCHEDULED, Status.RETRYING),
        Event.RUN_NOW: (Status.SCHEDULED, Status.RETRYING),
        Event.RESCHEDULE: (Status.SCHEDULED,),
        Event.CLAIM: (Status.QUEUED, Status.RETRYING),
        Event.SUCCEED: (Status.RUNNING,),
        Event.RETRY: (Status.RUNNING,),
        Event.FAIL: (Status.RUNNING,),
        Event.RELEASE: (Status.RUNNING,),
        Event.SNOOZE: (Status.RUNNING,),
        Event.STOP: (Status.RUNNING,),
        Event.CUT: (Status.RUNNING,),
        Event.CANCEL: WAITING,
        Event.EXPIRE: WAITING,
        Event.COMPLETE: UNFINISHED,
        Event.RESUBMIT: FINAL,
        Event.REPLACE: WAITING,
        Event.POSTPONE: WAITING,
        Event.GIVE_UP: (Status.QUEUED, Status.RETRYING),
    }
)
"""The states each event may start from; every ``UPDATE`` of a status carries these in its ``WHERE``."""

_TARGETS: Final = MappingProxyType(
    {
        Event.RESCHEDULE: Status.SCHEDULED,
        Event.CLAIM: Status.RUNNING,
        Event.SUCCEED: Status.SUCCEEDED,
        Event.RETRY: Status.RETRYING,
        Event.FAIL: Status.FAILED,
        Event.RELEASE: Status.QUEUED,
        Event.SNOOZE: Status.RETRYING,
        Event.STOP: Status.CANCELLED,
        Event.CUT: Status.EXPIRED,
        Event.CANCEL: Status.CANCELLED,
        Event.EXPIRE: Status.EXPIRED,
        Event.RESUBMIT: Status.QUEUED,
        Event.REPLACE: Status.QUEUED,
        Event.GIVE_UP: Status.FAILED,
    }
)


def target(event: Event, source: Status, *, failed: bool = False) -> Status:
    """The state that ``event`` leads to from ``source``. Raises ValueError where the design draws no arrow.

    ``failed`` says which outcome a completion by hand records.
    """
    if source not in SOURCES[event]:
        raise ValueError(f"a {source} task does not {event}")
    match event:
        case Event.FALL_DUE | Event.RUN_NOW:
            return Status.QUEUED if source is Status.SCHEDULED else Status.RETRYING
        case Event.POSTPONE:
            return Status.RETRYING if source is Status.RETRYING else Status.SCHEDULED
        case Event.COMPLETE:
            return Status.FAILED if failed else Status.SUCCEEDED
        case _:
            return _TARGETS[event]
