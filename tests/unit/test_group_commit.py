"""Group commit, where no server is needed to see it."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from uuid_utils.compat import uuid7

from aftercommit.core.errors import DatabaseTimeout
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.outages import StatementRefused
from aftercommit.db.submit import NewTask, Submission
from aftercommit.runtime.notifier import OutboxNotifier
from aftercommit.server.submission import group_commit
from aftercommit.server.submission.group_commit import GroupCommit, QueueLimits

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
    commit = GroupCommit(lambda: cast("DatabaseConnection", Refusing()), cast("OutboxNotifier", None), limits=LIMITS)
    tasks = [[NewTask(id=uuid7(), type="echo", payload="{}")] for _ in range(3)]
    waiting = [asyncio.create_task(commit.submit(Submission(each))) for each in tasks]
    await asyncio.sleep(0.05)
    await commit.close()
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DatabaseTimeout] * 3
