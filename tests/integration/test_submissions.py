"""Group commit: requests share a statement, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from aftercommit.db.database import DatabaseConnection
from aftercommit.db.outages import StatementRefused
from aftercommit.db.submit import IdempotencyKey, NewTask, Submission
from aftercommit.runtime.notifier import OutboxNotifier
from aftercommit.server.submission.group_commit import GroupCommit
from tests.integration.service import Service


def one(*, key: str | None = None, id: UUID | None = None, payload: str = "{}") -> Submission:
    return Submission(
        [NewTask(id=id or uuid7(), type="echo", payload=payload)], IdempotencyKey(key, b"hash") if key else None
    )


@pytest.fixture
async def submissions(service: Service) -> AsyncIterator[GroupCommit]:
    connect = partial(DatabaseConnection, service.settings, application="test")
    opened = GroupCommit(connect, OutboxNotifier(connect()))
    yield opened
    await opened.close()


async def test_submits_that_come_at_once_share_few_commits(
    service: Service, submissions: GroupCommit, sent: list[str]
) -> None:
    moments = await asyncio.gather(*(submissions.submit(one()) for _ in range(200)))
    assert None not in moments
    assert len(sent) <= 4
    [row] = await service.query(
        "SELECT (SELECT count(*) FROM aftercommit.tasks), (SELECT count(*) FROM aftercommit.outbox)"
    )
    assert tuple(row) == (200, 200)


async def test_one_of_those_with_the_same_key_is_committed(service: Service, submissions: GroupCommit) -> None:
    wanted = [one(key=f"k{number % 3}") for number in range(30)] + [one()]
    moments = await asyncio.gather(*(submissions.submit(each) for each in wanted))
    assert sum(moment is not None for moment in moments) == 4
    [row] = await service.query("SELECT count(*) FROM aftercommit.tasks")
    assert row[0] == 4


async def test_only_the_one_that_postgres_refuses_hears_of_it(service: Service, submissions: GroupCommit) -> None:
    wanted = [one(), one(), one(payload="no json"), one(), one(key="k")]
    ends = await asyncio.gather(*(submissions.submit(each) for each in wanted), return_exceptions=True)
    assert [isinstance(end, StatementRefused) for end in ends] == [False, False, True, False, False]
    [row] = await service.query("SELECT count(*) FROM aftercommit.tasks")
    assert row[0] == 4


async def test_tasks_of_a_request_that_went_away_are_committed_all_the_same(
    service: Service, submissions: GroupCommit
) -> None:
    first = asyncio.create_task(submissions.submit(one()))
    gone = asyncio.create_task(submissions.submit(one()))
    await asyncio.sleep(0)
    gone.cancel()
    assert await first is not None
    await submissions.submit(one())
    [row] = await service.query("SELECT count(*) FROM aftercommit.tasks")
    assert row[0] == 3
