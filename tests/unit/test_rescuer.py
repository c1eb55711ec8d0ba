import json
import time
from typing import Any
from uuid import UUID

import pytest

from aftercommit.core.failures import SUSPICIOUS
from aftercommit.core.states import Event
from aftercommit.db.rescue import LostTask
from aftercommit.server.maintenance import rescuer
from aftercommit.server.maintenance.rescuer import LOST, OVERDUE, Rescuer, decide


def a_lost_task(**changes: Any) -> LostTask:
    fields: dict[str, Any] = {
        "id": UUID(int=1),
        "claim_id": UUID(int=2),
        "worker": "worker",
        "type": "test",
        "queue": "tasks",
        "attempt": 1,
        "charged": 1,
        "allowed": 3,
        "expired": False,
        "lost_before": False,
        "suspect": False,
    }
    return LostTask(**fields | changes)


@pytest.mark.parametrize(
    ("changes", "what", "ending", "error", "suspicious"),
    [
        ({}, LOST, Event.RETRY, "WorkerLost", False),
        ({"charged": 4}, LOST, Event.FAIL, "WorkerLost", False),
        ({"charged": 4, "lost_before": True}, LOST, Event.RELEASE, "WorkerLostAgain", True),
        ({"charged": 3, "lost_before": True, "suspect": True}, LOST, Event.RETRY, "WorkerLostAgain", True),
        ({"charged": 4, "suspect": True}, LOST, Event.FAIL, "WorkerLostAgain", True),
        ({"charged": 4, "allowed": None}, LOST, Event.RELEASE, "WorkerLost", False),
        ({"lost_before": True}, OVERDUE, Event.RETRY, "Overdue", True),
        ({"charged": 4}, OVERDUE, Event.FAIL, "Overdue", True),
        ({"expired": True}, LOST, Event.CUT, "Expired", False),
        ({"expired": True, "charged": 4}, OVERDUE, Event.CUT, "Expired", False),
    ],
    ids=[
        "first loss",
        "first loss, last attempt",
        "second loss",
        "lost though apart",
        "lost though apart, last attempt",
        "lost with a worker that nobody knows",
        "overdue",
        "overdue, last attempt",
        "lost, deadline passed",
        "overdue, deadline passed",
    ],
)
def test_what_becomes_of_a_task_that_its_worker_will_not_end(
    changes: dict[str, Any], what: str, ending: Event, error: str, suspicious: bool
) -> None:
    outcome = decide(a_lost_task(**changes), what)
    kind = json.loads(outcome.error or "")["type"]
    assert (outcome.ending, kind, kind in SUSPICIOUS) == (ending, error, suspicious)


def test_task_is_overdue_once_every_look_found_it_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    unused: Any = None
    looks = Rescuer(unused, unused, interval_seconds=1, overdue_seconds=1)
    one, other = a_lost_task(), a_lost_task(id=UUID(int=2))
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert looks._still_overdue([one, other]) == []
    now += rescuer.OUTCOME_SECONDS / 2
    assert looks._still_overdue([one]) == []  # the other's row is locked
    now += rescuer.OUTCOME_SECONDS / 2
    assert looks._still_overdue([one, other]) == [one]
    assert looks._still_overdue([a_lost_task(attempt=2)]) == []
