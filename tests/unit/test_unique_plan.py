"""What a request with unique keys comes to."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftercommit.core.uniqueness import HeldWhile, OnConflict, Scope, Uniqueness
from aftercommit.db.submit import NewTask
from aftercommit.db.unique_keys import Holder
from aftercommit.server.submission.results import Fate
from aftercommit.server.submission.unique_plan import HeldKey, Plan, make_plan

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
RETURN, REJECT, REPLACE = OnConflict.RETURN_EXISTING, OnConflict.REJECT, OnConflict.REPLACE


def a_task(number: int, key: str | None, on_conflict: OnConflict = RETURN, **fields: Any) -> NewTask:
    at_most = fields.pop("at_most", None)
    unique = None
    if key is not None:
        unique = Uniqueness(
            key=key.encode(),
            scope=Scope.TYPE,
            held_while=HeldWhile.UNFINISHED,
            on_conflict=on_conflict,
            at_most=at_most,
        )
    return NewTask(id=UUID(int=number), type="a", payload=str(number), unique=unique, **fields)


def a_holder(key: str, *, waits: bool = True, seconds_ago: float = 0) -> dict[bytes, Holder]:
    return {key.encode(): Holder(key.encode(), UUID(int=99), NOW - timedelta(seconds=seconds_ago), waits)}


def after(plan: Plan, before: dict[UUID, str]) -> dict[UUID, str]:
    """The payloads of all tasks, once a plan is carried out."""
    return before | {task_id: task.payload for task_id, task in (plan.new | plan.replacements).items()}


def one_by_one(wanted: Sequence[NewTask]) -> tuple[dict[UUID, str], list[tuple[UUID, Fate]]]:
    payloads: dict[UUID, str] = {}
    answers: list[tuple[UUID, Fate]] = []
    held: dict[bytes, Holder] = {}
    for task in wanted:
        plan = make_plan([task], held, now=NOW)
        payloads = after(plan, payloads)
        answers += plan.answers
        if task.unique is not None and task.id in plan.new:
            held[task.unique.key] = Holder(task.unique.key, task.id, NOW, waits=True)
    return payloads, answers


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from([RETURN, REPLACE])), max_size=20))
def test_batch_comes_to_what_its_tasks_would_one_after_the_other(given: list[tuple[str | None, OnConflict]]) -> None:
    wanted = [a_task(number, key, on_conflict) for number, (key, on_conflict) in enumerate(given)]
    plan = make_plan(wanted, {}, now=NOW)
    assert (after(plan, {}), plan.answers) == one_by_one(wanted)


def test_request_is_refused_whole_and_each_held_key_is_named() -> None:
    wanted = [a_task(1, "free", REJECT), a_task(2, "held", REJECT), a_task(3, None), a_task(4, "free", REJECT)]
    assert make_plan(wanted, a_holder("held"), now=NOW).refused == [HeldKey(1, UUID(int=99)), HeldKey(3, None)]


def test_task_that_runs_is_not_replaced() -> None:
    plan = make_plan([a_task(1, "k", REPLACE)], a_holder("k", waits=False), now=NOW)
    assert (plan.new, plan.replacements, plan.answers) == ({}, {}, [(UUID(int=99), Fate.EXISTING)])


@pytest.mark.parametrize(
    ("held_seconds", "time", "due_in_seconds"),
    [
        (0, {"delay": timedelta(seconds=30)}, 30),
        (50, {"delay": timedelta(seconds=30)}, 10),
        (50, {"run_at": NOW + timedelta(days=1)}, 10),
        (70, {"delay": timedelta(seconds=30)}, None),
        (70, {}, None),
    ],
)
def test_replacing_puts_a_task_off_no_further_than_at_most(
    held_seconds: float, time: dict[str, Any], due_in_seconds: float | None
) -> None:
    task = a_task(1, "k", REPLACE, at_most=timedelta(seconds=60), **time)
    plan = make_plan([task], a_holder("k", seconds_ago=held_seconds), now=NOW)
    due_at = plan.replacements[UUID(int=99)].due_at(NOW)
    assert due_at == (None if due_in_seconds is None else NOW + timedelta(seconds=due_in_seconds))


def test_first_task_is_due_within_at_most_too() -> None:
    task = a_task(1, "k", REPLACE, at_most=timedelta(seconds=60), delay=timedelta(hours=1))
    assert make_plan([task], {}, now=NOW).new[task.id].due_at(NOW) == NOW + timedelta(seconds=60)
