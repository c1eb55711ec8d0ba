"""The fault suite's boundaries are where their names say."""

import asyncio
import inspect
from collections.abc import Sequence
from typing import Any

import pytest

from aftercommit.core.errors import DatabaseUnavailable
from tests.faults import boundaries
from tests.faults.boundaries import BOUNDARIES, Boundary, Call, IsDue
from tests.faults.crashing import owner_of
from tests.role_settings import ROLES

SYNCHRONOUS = (boundaries.before_report, boundaries.before_call)


class Died(BaseException):
    """Instead of SIGKILL."""


@pytest.fixture(autouse=True)
def survive(monkeypatch: pytest.MonkeyPatch) -> None:
    def die() -> None:
        raise Died

    monkeypatch.setattr(boundaries, "die", die)
    monkeypatch.setattr(boundaries, "_mark", lambda: None)


def due() -> bool:
    return True


@pytest.mark.parametrize("boundary", BOUNDARIES.values(), ids=BOUNDARIES)
def test_function_at_the_boundary_exists_and_is_of_the_kind_that_is_wrapped(boundary: Boundary) -> None:
    function = getattr(owner_of(boundary), boundary.name)
    assert boundary.role in ROLES
    assert inspect.iscoroutinefunction(function) != (boundary.wrap in SYNCHRONOUS)
    assert 1 <= boundary.smallest_nth <= boundary.largest_nth


@pytest.mark.parametrize("name", [name for name in BOUNDARIES if name.endswith(("before-commit", "and-commit"))])
def test_boundary_before_a_commit_proves_that_it_is(name: str) -> None:
    # What the API submits is committed by its statement itself: the boundary is before that is sent.
    expected = boundaries.before if name == "api-before-commit" else boundaries.before_commit
    assert BOUNDARIES[name].wrap is expected


def a_fetch(*, is_open: bool) -> Call:
    async def fetch(statement: str) -> Sequence[Any]:
        assert "pg_current_xact_id_if_assigned" in statement
        return [{"open": is_open}]

    return fetch


async def outcome(wrap: Call, *, is_open: bool = False, is_due: IsDue = due, result: object = 1) -> object:
    """What comes of a call at a boundary: its result, or what it raises."""

    async def original(_fetch: Any) -> object:
        return result

    try:
        return await wrap(original, is_due)(a_fetch(is_open=is_open))
    except (Died, DatabaseUnavailable) as error:
        return type(error)


async def test_role_dies_before_the_commit_only_while_the_transaction_is_open() -> None:
    assert await outcome(boundaries.before_commit, is_open=True) is Died
    assert await outcome(boundaries.before_commit, is_open=False) == 1
    assert await outcome(boundaries.before_commit, is_open=True, is_due=lambda: False) == 1


async def test_role_dies_after_the_commit_only_when_something_is_committed() -> None:
    assert await outcome(boundaries.after_commit, is_open=False) is Died
    assert await outcome(boundaries.after_commit, is_open=True) == 1
    assert await outcome(boundaries.after_commit, is_open=False, result=0) == 0


async def test_answer_is_lost_only_when_something_is_committed() -> None:
    assert await outcome(boundaries.answer_lost, is_open=False) is DatabaseUnavailable
    assert await outcome(boundaries.answer_lost, is_open=True) == 1


async def test_role_dies_while_the_statement_is_under_way_and_not_once_it_was_answered() -> None:
    assert await outcome(boundaries.under_way) == 1

    async def slow() -> None:
        await asyncio.sleep(60)

    with pytest.raises(Died):
        await boundaries.under_way(slow, due)()
