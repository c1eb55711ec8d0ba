"""What becomes of due ticks: catching up, overlaps, pauses, and that the account always adds up."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftercommit.core.schedules import (
    MOST_TICKS,
    CatchUp,
    Decision,
    Overlap,
    Pause,
    Policy,
    Run,
    RunOutcome,
    SkipReason,
    Timing,
    decide,
    due_ticks,
    look,
    to_backfill,
)

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MINUTELY = Timing(cron=None, zone=None, interval_seconds=60)
CREATED, BUFFERED, SKIPPED = RunOutcome.CREATED, RunOutcome.BUFFERED, RunOutcome.SKIPPED


def a_policy(**changes: Any) -> Policy:
    fields: dict[str, Any] = {
        "catch_up": CatchUp.ONE,
        "catch_up_max": 3,
        "catch_up_seconds": 600.0,
        "overlap": Overlap.ALLOW,
    }
    return Policy(**fields | changes)


def decided(minutes: float, policy: Policy, *, timing: Timing = MINUTELY, **state: Any) -> Decision:
    """What becomes of a schedule, the first undecided tick of which is the one after noon, so long after noon."""
    known: dict[str, Any] = {"pause": None, "is_busy": False, "is_buffering": False, "most_runs": 100}
    now = NOON + MINUTE * minutes
    return decide(look(due_ticks(timing, "name", NOON), now), policy, now=now, **known | state)


def a_pause(since: float, until: float) -> Pause:
    """Between these minutes after noon."""
    return Pause(NOON + since * MINUTE, NOON + until * MINUTE)


def told(runs: Sequence[Run]) -> list[tuple[str, int, int, str | None]]:
    """Outcome, minute, folded and reason of each."""
    return [(run.outcome, int((run.tick - NOON) / MINUTE), run.folded, run.reason) for run in runs]


def test_nothing_is_decided_before_it_is_due() -> None:
    decision = decided(0.99, a_policy())
    assert decision.runs == []
    assert decision.next_tick is not None
    assert decision.next_tick.tick == NOON + MINUTE


def test_tick_that_is_due_becomes_a_task_and_the_next_one_is_named() -> None:
    decision = decided(1.1, a_policy(catch_up=CatchUp.SKIP))
    assert told(decision.runs) == [(CREATED, 1, 0, None)]
    assert decision.next_tick is not None
    assert decision.next_tick.tick == NOON + 2 * MINUTE


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        (CatchUp.SKIP, [(SKIPPED, 5, 4, SkipReason.MISSED)]),
        (CatchUp.ONE, [(CREATED, 5, 4, None)]),
        (
            CatchUp.ALL,
            [(SKIPPED, 2, 1, SkipReason.MISSED), (CREATED, 3, 0, None), (CREATED, 4, 0, None), (CREATED, 5, 0, None)],
        ),
    ],
)
def test_missed_ticks_are_caught_up_as_the_policy_says(catch_up: CatchUp, expected: list[object]) -> None:
    assert told(decided(5.5, a_policy(catch_up=catch_up)).runs) == expected


def test_missed_ticks_fold_into_the_one_that_is_on_time() -> None:
    assert told(decided(5.1, a_policy()).runs) == [(CREATED, 5, 4, None)]


def test_ticks_older_than_the_window_are_skipped() -> None:
    runs = decided(20.5, a_policy(catch_up_seconds=600)).runs
    assert told(runs) == [(SKIPPED, 10, 9, SkipReason.MISSED), (CREATED, 20, 9, None)]


def test_ticks_of_a_pause_are_skipped_whatever_is_caught_up() -> None:
    runs = decided(6.1, a_policy(catch_up=CatchUp.ALL), pause=a_pause(0, 4.5)).runs
    assert told(runs) == [(SKIPPED, 4, 3, SkipReason.PAUSED), (CREATED, 5, 0, None), (CREATED, 6, 0, None)]


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        (CatchUp.SKIP, [(SKIPPED, 2, 1, "missed"), (SKIPPED, 4, 1, "paused"), (SKIPPED, 5, 0, "missed")]),
        (CatchUp.ONE, [(CREATED, 2, 1, None), (SKIPPED, 4, 1, "paused"), (CREATED, 6, 1, None)]),
        (CatchUp.ALL, [(CREATED, 1, 0, None), (CREATED, 2, 0, None), (SKIPPED, 4, 1, "paused")]),
    ],
)
def test_ticks_that_were_missed_before_a_pause_are_caught_up(catch_up: CatchUp, expected: list[object]) -> None:
    runs = decided(6.1, a_policy(catch_up=catch_up), pause=a_pause(2.5, 4.5)).runs
    assert told(runs)[:3] == expected


def test_pause_without_a_tick_parts_nothing() -> None:
    assert told(decided(5.1, a_policy(), pause=a_pause(2.2, 2.8)).runs) == [(CREATED, 5, 4, None)]


def test_tick_whose_jitter_reaches_into_a_pause_fell_into_it() -> None:
    timing = Timing(cron=None, zone=None, interval_seconds=60, jitter_seconds=60)
    first = next(due_ticks(timing, "name", NOON))
    pause = Pause(first.tick + (first.due_at - first.tick) / 2, first.tick + MINUTE)
    assert told(decided(2.0, a_policy(), timing=timing, pause=pause).runs)[0] == (SKIPPED, 1, 0, SkipReason.PAUSED)


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        (Overlap.ALLOW, [(CREATED, 1, 0, None), (CREATED, 2, 0, None), (CREATED, 3, 0, None)]),
        (Overlap.SKIP, [(SKIPPED, 3, 2, SkipReason.OVERLAP)]),
        (Overlap.BUFFER_ONE, [(BUFFERED, 1, 0, None), (SKIPPED, 3, 1, SkipReason.OVERLAP)]),
        (Overlap.CANCEL_RUNNING, [(BUFFERED, 1, 0, None), (SKIPPED, 3, 1, SkipReason.OVERLAP)]),
    ],
)
def test_ticks_that_overlap_the_latest_task(overlap: Overlap, expected: list[object]) -> None:
    policy = a_policy(catch_up=CatchUp.ALL, overlap=overlap)
    assert told(decided(3.1, policy, is_busy=True).runs) == expected


def test_only_the_first_of_several_ticks_starts_where_none_may_overlap() -> None:
    policy = a_policy(catch_up=CatchUp.ALL, overlap=Overlap.SKIP)
    assert told(decided(3.1, policy).runs) == [(CREATED, 1, 0, None), (SKIPPED, 3, 1, SkipReason.OVERLAP)]


def test_no_second_tick_is_buffered() -> None:
    policy = a_policy(overlap=Overlap.BUFFER_ONE)
    runs = decided(1.1, policy, is_busy=True, is_buffering=True).runs
    assert told(runs) == [(SKIPPED, 1, 0, SkipReason.OVERLAP)]


def test_what_exceeds_the_tasks_of_a_round_is_left_for_the_next() -> None:
    decision = decided(3.1, a_policy(catch_up=CatchUp.ALL), most_runs=2)
    assert told(decision.runs) == [(CREATED, 1, 0, None), (CREATED, 2, 0, None)]
    assert decision.next_tick is not None
    assert decision.next_tick.tick == NOON + 3 * MINUTE


@pytest.mark.parametrize("catch_up", CatchUp)
def test_of_more_ticks_than_are_looked_at_together_none_is_lost(catch_up: CatchUp) -> None:
    policy = a_policy(catch_up=catch_up, catch_up_max=1000, catch_up_seconds=10**7)
    runs: list[Run] = []
    after, now = NOON, NOON + (2 * MOST_TICKS + 5.5) * MINUTE
    while not runs or runs[-1].tick < now - MINUTE:
        ticks = look(due_ticks(MINUTELY, "name", after), now)
        decision = decide(ticks, policy, now=now, pause=None, is_busy=False, is_buffering=False, most_runs=MOST_TICKS)
        runs += decision.runs
        after = decision.runs[-1].tick
    assert sum(run.folded + 1 for run in runs) == 2 * MOST_TICKS + 5
    created = [run for run in runs if run.outcome is CREATED]
    assert len(created) == {CatchUp.SKIP: 0, CatchUp.ONE: 1, CatchUp.ALL: 1000}[catch_up]


@given(
    policy=st.builds(
        Policy,
        catch_up=st.sampled_from(CatchUp),
        catch_up_max=st.integers(1, 5),
        catch_up_seconds=st.floats(0, 900),
        overlap=st.sampled_from(Overlap),
    ),
    minutes=st.floats(0, 30),
    pause=st.none() | st.builds(a_pause, st.floats(0, 30), st.floats(0, 30)),
    state=st.fixed_dictionaries({"is_busy": st.booleans(), "is_buffering": st.booleans()}),
    most_runs=st.integers(1, 5),
    jitter_seconds=st.sampled_from([0.0, 20.0, 600.0]),
)
def test_account_covers_each_tick_once_in_order(
    policy: Policy,
    minutes: float,
    jitter_seconds: float,
    *,
    pause: Pause | None,
    state: dict[str, bool],
    most_runs: int,
) -> None:
    timing = Timing(cron=None, zone=None, interval_seconds=60, jitter_seconds=jitter_seconds)
    decision = decided(minutes, policy, timing=timing, pause=pause, most_runs=most_runs, **state)
    expected = NOON
    for run in decision.runs:
        assert run.first_tick == expected + MINUTE
        assert run.tick == run.first_tick + run.folded * MINUTE
        assert run.due_at <= NOON + MINUTE * minutes
        expected = run.tick
    assert decision.next_tick is not None
    assert decision.next_tick.tick == expected + MINUTE
    created = [run for run in decision.runs if run.outcome is CREATED]
    assert len(created) <= most_runs
    assert sum(run.outcome is BUFFERED for run in decision.runs) <= 1 - state["is_buffering"]
    if policy.overlap is not Overlap.ALLOW:
        assert len(created) <= 1 - state["is_busy"]
    if len(created) < most_runs:
        assert decision.next_tick.due_at > NOON + MINUTE * minutes


@given(st.floats(0, 86_400), st.text(max_size=5))
def test_jitter_is_stable_and_stays_before_the_next_tick(jitter_seconds: float, name: str) -> None:
    timing = Timing(cron=None, zone=None, interval_seconds=60, jitter_seconds=jitter_seconds)
    found = list(islice(due_ticks(timing, name, NOON), 20))
    assert found[5:] == list(islice(due_ticks(timing, name, found[4].tick), 15))
    for each in found:
        assert timedelta() <= each.due_at - each.tick <= timedelta(seconds=min(jitter_seconds, 60))


def test_jitter_spreads_over_its_range() -> None:
    timing = Timing(cron=None, zone=None, interval_seconds=3600, jitter_seconds=100)
    delays = [(each.due_at - each.tick).total_seconds() for each in islice(due_ticks(timing, "name", NOON), 200)]
    assert min(delays) < 10
    assert max(delays) > 90


def test_cron_that_has_no_further_tick_ends() -> None:
    gone = Timing(cron="* * */20 * 1L", zone="UTC", interval_seconds=None)
    decision = decided(1.1, a_policy(), timing=gone)
    assert (decision.runs, decision.next_tick) == ([], None)


def test_backfill_leaves_out_what_an_entry_stands_for() -> None:
    ticks = [NOON + MINUTE * n for n in range(10)]
    done = [(ticks[6], ticks[6]), (ticks[1], ticks[3]), (ticks[2], ticks[2])]
    assert list(to_backfill(ticks, done)) == [ticks[0], ticks[4], ticks[5], *ticks[7:]]
