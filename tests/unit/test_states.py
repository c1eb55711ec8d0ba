"""The table of states. That the statements keep to it is shown by ``test_states_in_sql.py``."""

import pytest

from aftercommit.core.states import FINAL, SOURCES, UNFINISHED, WAITING, Event, Status, target


@pytest.mark.parametrize(
    ("event", "source", "expected"),
    [
        (Event.FALL_DUE, Status.SCHEDULED, Status.QUEUED),
        (Event.FALL_DUE, Status.RETRYING, Status.RETRYING),
        (Event.CLAIM, Status.QUEUED, Status.RUNNING),
        (Event.CLAIM, Status.RETRYING, Status.RUNNING),
        (Event.SUCCEED, Status.RUNNING, Status.SUCCEEDED),
        (Event.RETRY, Status.RUNNING, Status.RETRYING),
        (Event.FAIL, Status.RUNNING, Status.FAILED),
        (Event.RELEASE, Status.RUNNING, Status.QUEUED),
        *((Event.CANCEL, waiting, Status.CANCELLED) for waiting in WAITING),
        *((Event.COMPLETE, unfinished, Status.SUCCEEDED) for unfinished in UNFINISHED),
        *((Event.RESUBMIT, final, Status.QUEUED) for final in FINAL),
        *((Event.REPLACE, waiting, Status.QUEUED) for waiting in WAITING),
        (Event.GIVE_UP, Status.RETRYING, Status.FAILED),
        (Event.POSTPONE, Status.QUEUED, Status.SCHEDULED),
        (Event.POSTPONE, Status.RETRYING, Status.RETRYING),
    ],
)
def test_target_is_the_design_s_arrow_when_the_event_is_legal(event: Event, source: Status, expected: Status) -> None:
    assert target(event, source) is expected


def test_completion_by_hand_fails_the_task_when_it_records_an_error() -> None:
    assert target(Event.COMPLETE, Status.RUNNING, failed=True) is Status.FAILED


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("source", Status)
def test_target_raises_when_the_design_draws_no_arrow(event: Event, source: Status) -> None:
    if source in SOURCES[event]:
        assert target(event, source) in Status
    else:
        with pytest.raises(ValueError, match=f"a {source} task does not {event}"):
            target(event, source)


def test_every_state_is_waiting_running_or_final() -> None:
    assert set(UNFINISHED) | set(FINAL) == set(Status)
    assert not set(UNFINISHED) & set(FINAL)
    assert set(UNFINISHED) - set(WAITING) == {Status.RUNNING}
