"""Group commit: submissions share a statement and nothing else; what waits is bounded."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from aftercommit.core.errors import DatabaseTimeout, Overloaded
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.outages import StatementRefused
from aftercommit.db.submit import IdempotencyKey, NewTask, Submission
from aftercommit.runtime.notifier import Notifier
from aftercommit.server.submission.group_commit import STATEMENTS_AT_ONCE, GroupCommit
from aftercommit.server.submission.submission_queue import LARGEST_GROUP_BYTES, QueueLimits, SubmissionDropped
from tests.integration.service import Service

LIMITS = QueueLimits(max_tasks=1_000, max_bytes=1_000_000, wait_seconds=30)
LOCK = "LOCK TABLE aftercommit.outbox_rows IN ACCESS EXCLUSIVE MODE"


def one(*, key: str | None = None, id: UUID | None = None, payload: str = "{}") -> Submission:
    return Submission(
        [NewTask(id=id or uuid7(), type="echo", payload=payload)], IdempotencyKey(key, b"hash") if key else None
    )


def opened(service: Service, limits: QueueLimits) -> GroupCommit:
    connect = partial(DatabaseConnection, service.settings, application="test")
    return GroupCommit(connect, Notifier(connect()), limits=limits)


async def count(service: Service) -> int:
    [row] = await service.query("SELECT count(*) FROM aftercommit.tasks")
    return int(row[0])


@pytest.fixture
async def group_commit(service: Service) -> AsyncIterator[GroupCommit]:
    made = opened(service, LIMITS)
    yield made
    await made.close()


@pytest.fixture
async def locked(service: Service) -> AsyncIterator[DatabaseConnection]:
    """Holds up every submit until it is closed."""
    async with DatabaseConnection(service.settings, application="test") as lock:
        await lock.fetch("BEGIN")
        await lock.fetch(LOCK)
        yield lock


async def fill_statements(service: Service, group_commit: GroupCommit) -> list[asyncio.Task[object]]:
    """A submission under way on each connection, held up by the lock."""
    sent: list[asyncio.Task[object]] = []
    for number in range(1, STATEMENTS_AT_ONCE + 1):
        sent.append(asyncio.create_task(group_commit.submit(one())))
        await service.until(
            f"SELECT count(*) = {number} FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%task%'"
            " AND datname = current_database()"
        )
    return sent


async def test_submits_that_come_at_once_share_few_commits(
    service: Service, group_commit: GroupCommit, sent: list[str]
) -> None:
    moments = await asyncio.gather(*(group_commit.submit(one()) for _ in range(200)))
    assert None not in moments
    assert len(sent) <= 4
    [row] = await service.query(
        "SELECT (SELECT count(*) FROM aftercommit.tasks),"
        " (SELECT sum(cardinality(task_ids)) FROM aftercommit.outbox_rows)"
    )
    assert tuple(row) == (200, 200)


async def test_one_of_those_with_the_same_key_is_committed(service: Service, group_commit: GroupCommit) -> None:
    wanted = [one(key=f"k{number % 3}") for number in range(30)] + [one()]
    moments = await asyncio.gather(*(group_commit.submit(each) for each in wanted))
    assert sum(moment is not None for moment in moments) == 4
    assert await count(service) == 4


async def test_only_the_one_that_postgres_refuses_hears_of_it(service: Service, group_commit: GroupCommit) -> None:
    wanted = [one(), one(), one(payload="no json"), one(), one(key="k")]
    ends = await asyncio.gather(*(group_commit.submit(each) for each in wanted), return_exceptions=True)
    assert [isinstance(end, StatementRefused) for end in ends] == [False, False, True, False, False]
    assert await count(service) == 4


async def test_group_is_cut_where_its_payloads_are_large(service: Service, sent: list[str]) -> None:
    group_commit = opened(service, QueueLimits(max_tasks=100, max_bytes=100_000_000, wait_seconds=30))
    await asyncio.gather(*(group_commit.submit(one(), payload_bytes=LARGEST_GROUP_BYTES // 2 + 1) for _ in range(6)))
    await group_commit.close()
    assert sum("INSERT" in statement for statement in sent) == 6


async def test_submit_is_refused_when_too_many_tasks_wait(
    service: Service, group_commit: GroupCommit, locked: DatabaseConnection
) -> None:
    waiting = [asyncio.create_task(group_commit.submit(one())) for _ in range(LIMITS.max_tasks)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await group_commit.submit(one())
    await locked.close()
    await asyncio.gather(*waiting)
    # There is room again.
    assert await group_commit.submit(one()) is not None
    assert await count(service) == LIMITS.max_tasks + 1


async def test_submit_is_refused_when_too_many_bytes_wait(
    group_commit: GroupCommit, locked: DatabaseConnection
) -> None:
    waiting = [asyncio.create_task(group_commit.submit(one(), payload_bytes=400_000)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await group_commit.submit(one(), payload_bytes=400_000)
    await locked.close()
    await asyncio.gather(*waiting)


async def test_submission_larger_than_the_limits_is_taken_when_nothing_else_waits(service: Service) -> None:
    group_commit = opened(service, QueueLimits(max_tasks=1, max_bytes=1, wait_seconds=30))
    batch = Submission([NewTask(id=uuid7(), type="echo", payload="{}") for _ in range(10)])
    assert await group_commit.submit(batch, payload_bytes=100) is not None
    await group_commit.close()


async def test_wait_ends_although_postgres_goes_on_waiting(service: Service, locked: DatabaseConnection) -> None:
    group_commit = opened(service, QueueLimits(max_tasks=100, max_bytes=1_000, wait_seconds=2))
    sent = await fill_statements(service, group_commit)
    async with asyncio.timeout(10):
        with pytest.raises(Overloaded, match="Nothing was submitted"):
            await group_commit.submit(one())
        for each in sent:
            with pytest.raises(DatabaseTimeout, match="unknown"):
                await each
    await locked.close()
    await group_commit.close()
    # What was sent is committed, what waited is not.
    assert await count(service) == STATEMENTS_AT_ONCE


async def test_submission_is_dropped_when_its_caller_is_cancelled_before_it_was_sent(
    service: Service, group_commit: GroupCommit, locked: DatabaseConnection
) -> None:
    sent = await fill_statements(service, group_commit)
    gone = asyncio.create_task(group_commit.submit(one()))
    await asyncio.sleep(0)
    gone.cancel()
    await locked.close()
    await asyncio.gather(*sent)
    assert await group_commit.submit(one()) is not None
    assert await count(service) == STATEMENTS_AT_ONCE + 1


async def test_submission_is_dropped_when_its_caller_leaves_before_it_was_sent(
    service: Service, group_commit: GroupCommit, locked: DatabaseConnection
) -> None:
    left = asyncio.Event()
    sent = await fill_statements(service, group_commit)
    waiting = asyncio.create_task(group_commit.submit(one(), caller_gone=left.wait))
    left.set()
    with pytest.raises(SubmissionDropped):
        await waiting
    await locked.close()
    await asyncio.gather(*sent)
    assert await count(service) == STATEMENTS_AT_ONCE


async def test_submission_that_was_sent_is_committed_although_its_caller_leaves(
    service: Service, group_commit: GroupCommit, locked: DatabaseConnection
) -> None:
    sent = await fill_statements(service, group_commit)
    sent[0].cancel()
    await locked.close()
    assert await sent[1] is not None
    await service.until(f"SELECT count(*) = {STATEMENTS_AT_ONCE} FROM aftercommit.tasks")


async def test_callers_are_told_when_the_process_stops_before_their_turn(
    service: Service, group_commit: GroupCommit, locked: DatabaseConnection
) -> None:
    sent = await fill_statements(service, group_commit)
    waiting = asyncio.create_task(group_commit.submit(one()))
    await asyncio.sleep(0)
    await group_commit.close()
    with pytest.raises(Overloaded):
        await waiting
    for each in sent:
        with pytest.raises(DatabaseTimeout):
            await each
