"""Group commit, where no server is needed to see it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from uuid_utils.compat import uuid7

from aftercommit.core.errors import DatabaseTimeout
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.outages import StatementRefused
from aftercommit.db.submit import Eager, NewTask, Submission
from aftercommit.runtime.notifier import Notifier
from aftercommit.server.submission import group_commit
from aftercommit.server.submission.group_commit import GroupCommit
from aftercommit.server.submission.submission_queue import QueueLimits

LIMITS = QueueLimits(max_tasks=1_000, max_bytes=1_000_000, wait_seconds=30)


class Refusing:
    """Refuses the first statement and answers no other."""

    refused = False

    async def fetch(self, *_: Any) -> Sequence[Any]:
        if not self.refused:
            self.refused = True
            raise StatementRefused("one of them")
        return cast("Sequence[Any]", await asyncio.Future())

    async def close(self) -> None:
        pass


async def test_nobody_waits_for_ever_when_a_group_is_cut_short_while_it_is_written_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_commit, "CLOSE_SECONDS", 0.05)
    monkeypatch.setattr(group_commit, "STATEMENTS_AT_ONCE", 1)
    commit = GroupCommit(lambda: cast("DatabaseConnection", Refusing()), cast("Notifier", None), limits=LIMITS)
    tasks = [[NewTask(id=uuid7(), type="echo", payload="{}")] for _ in range(3)]
    waiting = [asyncio.create_task(commit.submit(Submission(each))) for each in tasks]
    await asyncio.sleep(0.05)
    await commit.close()
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DatabaseTimeout] * 3


class Answering:
    """Answers when told, and keeps how many tasks each statement had."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.open: deque[asyncio.Future[Sequence[Any]]] = deque()

    async def fetch(self, _: str, *values: Any) -> Sequence[Any]:
        self.sizes.append(len(values[3]))
        self.open.append(asyncio.get_running_loop().create_future())
        return await self.open[-1]

    def answer(self) -> None:
        self.open.popleft().set_result([{"created_at": datetime.now(UTC), "free_keys": [], "id": None}])

    async def close(self) -> None:
        pass


class Silent:
    def outbox(self) -> None:
        pass


@pytest.fixture
async def answering() -> Answering:
    return Answering()


@pytest.fixture
async def commit(answering: Answering) -> AsyncIterator[GroupCommit]:
    made = GroupCommit(lambda: cast("DatabaseConnection", answering), cast("Notifier", Silent()), limits=LIMITS)
    yield made
    await made.close()


class Broken:
    """An eager relay with a fault."""

    def terms(self, _: int) -> Eager:
        return Eager()

    def committed(self, *_: Any) -> None:
        raise RuntimeError("a fault")


async def test_what_is_committed_is_told_as_committed_although_the_eager_relay_fails(answering: Answering) -> None:
    connect = cast("Any", lambda: answering)
    commit = GroupCommit(connect, cast("Any", Silent()), cast("Any", Broken()), limits=LIMITS)
    caller = send(commit)
    await until(lambda: answering.sizes == [1])
    answering.answer()
    assert await caller is not None
    await commit.close()


def send(commit: GroupCommit, count: int = 1) -> asyncio.Task[object]:
    return asyncio.create_task(commit.submit(Submission([NewTask(id=uuid7(), type="a", payload="{}")] * count)))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_what_comes_while_a_statement_is_under_way_waits_for_it_and_shares_the_next(
    commit: GroupCommit, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "HELD_UP_SECONDS", 60)
    callers = [send(commit)]
    await until(lambda: answering.sizes == [1])
    callers += [send(commit) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert answering.sizes == [1]
    answering.answer()
    await until(lambda: answering.sizes == [1, 3])
    answering.answer()
    await asyncio.gather(*callers)


async def test_after_a_statement_the_next_rests_for_as_long_as_it_took(
    commit: GroupCommit, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MOST_REST_SECONDS", 60)
    first = send(commit)
    await until(lambda: answering.sizes == [1])
    await asyncio.sleep(0.02)
    answering.answer()
    await first
    answered_at = asyncio.get_running_loop().time()
    second = send(commit)
    await until(lambda: answering.sizes == [1, 1])
    assert asyncio.get_running_loop().time() - answered_at >= 0.015
    answering.answer()
    await second


@pytest.mark.parametrize("resting", [False, True])
async def test_many_tasks_wait_for_no_other_statement_and_no_rest(
    resting: bool, commit: GroupCommit, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "HELD_UP_SECONDS", 60)
    monkeypatch.setattr(group_commit, "MOST_REST_SECONDS", 60)
    first = send(commit)
    await until(lambda: answering.sizes == [1])
    if resting:
        await asyncio.sleep(0.5)
        answering.answer()
        await first
    second = send(commit, group_commit.MANY_TASKS)
    await asyncio.sleep(0.01)
    assert answering.sizes == [1, group_commit.MANY_TASKS]
    while answering.open:
        answering.answer()
    await asyncio.gather(first, second)


async def test_a_statement_that_is_held_up_holds_up_no_other(
    commit: GroupCommit, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "HELD_UP_SECONDS", 0.01)
    callers = [send(commit)]
    await until(lambda: answering.sizes == [1])
    callers.append(send(commit))
    await until(lambda: answering.sizes == [1, 1])
    answering.answer()
    answering.answer()
    await asyncio.gather(*callers)


async def test_closing_writes_what_waits_without_a_rest(
    answering: Answering, commit: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "HELD_UP_SECONDS", 60)
    callers = [send(commit)]
    await until(lambda: answering.sizes == [1])
    callers.append(send(commit))
    await asyncio.sleep(0)
    closing = asyncio.create_task(commit.close())
    await until(lambda: answering.sizes == [1, 1])
    answering.answer()
    answering.answer()
    await closing
    assert None not in await asyncio.gather(*callers)
