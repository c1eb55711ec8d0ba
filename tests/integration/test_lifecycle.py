"""The whole life of tasks by the real statements, with interleaved commits, beside a model: see ``lifecycle_machine``.

Added here: unique keys, for which a transaction locks the key, looks at its holder, and then writes.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test
from uuid_utils.compat import uuid7

from aftercommit.core.features import Feature
from aftercommit.core.uniqueness import HeldWhile, OnConflict, Scope, Uniqueness
from aftercommit.db import submit, unique_keys
from aftercommit.db.submit import NewTask, Submission
from aftercommit.devstack.servers import Servers
from aftercommit.server.submission import resubmission
from tests.integration import lifecycle_model as model
from tests.integration.conftest import connect_admin
from tests.integration.lifecycle_machine import LOOK_SECONDS, Lifecycle
from tests.integration.lifecycle_model import Step
from tests.long_runs import often

DATABASE: Final = "lifecycle"
CONNECTIONS: Final = 3
KEYS: Final = 2
EXAMPLES: Final = often(20, long=400)


@dataclass(slots=True, eq=False)
class KeyTransaction:
    """Holds the lock of a key, or waits for it; ``created`` tells whether the task ``task_id`` was made."""

    connection: asyncpg.Connection
    task_id: UUID
    created: asyncio.Task[bool]


class UniqueLifecycle(Lifecycle):
    """At most one transaction locks a key, and at most one waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.key_of: dict[UUID, int] = {}
        self.holders: dict[int, UUID] = {}
        self.locks: dict[int, KeyTransaction] = {}
        self.queued: dict[int, KeyTransaction] = {}

    def teardown(self) -> None:
        self.run(self._undo())
        super().teardown()

    async def _undo(self) -> None:
        for transaction in (*self.locks.values(), *self.queued.values()):
            await asyncio.wait([transaction.created])
            await transaction.connection.execute("ROLLBACK")

    @rule(key=st.integers(0, KEYS - 1))
    def submit_unique(self, key: int) -> None:
        if self.idle and key not in self.queued:
            self.run(self._begin_unique(key))

    @precondition(lambda self: self.locks)
    @rule(pick=st.integers(0, 99), commit=st.booleans())
    def end_unique(self, pick: int, commit: bool) -> None:
        key = list(self.locks)[pick % len(self.locks)]
        self.run(self._end_unique(key, commit=commit))

    @precondition(lambda self: self.key_of)
    @rule(pick=st.integers(0, 99))
    def retry_unique(self, pick: int) -> None:
        """An operator's retry, which takes the key again."""
        task_id = list(self.key_of)[pick % len(self.key_of)]
        key = self.key_of[task_id]
        if key in self.locks or task_id in self.holds:
            return
        leads_to = model.resubmit(self.tasks[task_id]) if self._is_free(key, task_id) else None
        assert self.run(self._retry(task_id)) == (leads_to is not None)
        if leads_to is not None:
            self.tasks[task_id] = leads_to
            self.holders[key] = task_id

    @invariant()
    def one_unfinished_task_of_each_key(self) -> None:
        unfinished = [key for task_id, key in self.key_of.items() if not self.tasks[task_id].is_final]
        assert len(unfinished) == len(set(unfinished))

    def resubmit_step(self, task_id: UUID) -> Step:
        return (lambda _: None) if task_id in self.key_of else super().resubmit_step(task_id)

    def _is_free(self, key: int, task_id: UUID | None = None) -> bool:
        """Whether nobody else than ``task_id`` holds the key."""
        holder = self.holders.get(key)
        return holder is None or holder == task_id or self.tasks[holder].is_final

    async def _begin_unique(self, key: int) -> None:
        connection = self.idle.pop()
        await connection.execute("BEGIN")
        new = NewTask(id=uuid7(), type="test", payload="{}", features=Feature.UNIQUE, unique=_unique(key))
        created = asyncio.ensure_future(_submit(connection.fetch, new))
        transaction = KeyTransaction(connection, new.id, created)
        if key not in self.locks:
            await self._answered_unique(key, transaction)
            return
        done, _ = await asyncio.wait([created], timeout=LOOK_SECONDS)
        assert not done, "it did not wait for the transaction that locks the key"
        self.queued[key] = transaction

    async def _answered_unique(self, key: int, transaction: KeyTransaction) -> None:
        async with asyncio.timeout(5):
            assert await transaction.created == self._is_free(key)
        if transaction.created.result():
            self.locks[key] = transaction
        else:
            await transaction.connection.execute("COMMIT")
            self.idle.append(transaction.connection)

    async def _end_unique(self, key: int, *, commit: bool) -> None:
        transaction = self.locks.pop(key)
        await transaction.connection.execute("COMMIT" if commit else "ROLLBACK")
        self.idle.append(transaction.connection)
        if commit:
            self.tasks[transaction.task_id] = model.submitted(later=False)
            self.key_of[transaction.task_id] = key
            self.holders[key] = transaction.task_id
        if (waiting := self.queued.pop(key, None)) is not None:
            await self._answered_unique(key, waiting)

    async def _retry(self, task_id: UUID) -> bool:
        async with self.admin.transaction():
            done, _ = await resubmission.resubmit_unique(self.admin.fetch, task_id, None)
        return done


async def _submit(fetch: Any, new: NewTask) -> bool:
    """As ``UniqueCommit`` does it; whether the task was made."""
    taken, _ = await unique_keys.lock(fetch, [new])
    assert new.unique is not None
    if not taken and await unique_keys.find(fetch, [new.unique.key]):
        return False
    await submit.submit(fetch, [Submission([new])])
    if not taken:
        await unique_keys.take(fetch, [new])
    return True


def _unique(key: int) -> Uniqueness:
    return Uniqueness(
        key=bytes([key]) * 32,
        scope=Scope.TYPE,
        held_while=HeldWhile.UNFINISHED,
        on_conflict=OnConflict.RETURN_EXISTING,
        name=str(key),
    )


@pytest.fixture
def machine(servers: Servers, template: str) -> Iterator[type[UniqueLifecycle]]:
    async def connect() -> list[asyncpg.Connection]:
        admin = await connect_admin(servers)
        await admin.execute(f"CREATE DATABASE {DATABASE} TEMPLATE {template}")
        return [admin, *[await connect_admin(servers, DATABASE) for _ in range(1 + CONNECTIONS)]]

    async def close(admin: asyncpg.Connection, *others: asyncpg.Connection) -> None:
        for connection in others:
            await connection.close()
        await admin.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")
        await admin.close()

    with asyncio.Runner() as runner:
        admin, own, *connections = runner.run(connect())
        yield type("Here", (UniqueLifecycle,), {"runner": runner, "admin": own, "connections": connections})
        runner.run(close(admin, own, *connections))


@pytest.mark.timeout(EXAMPLES * 10)
def test_statements_do_what_the_model_says_whatever_commits_first(machine: type[UniqueLifecycle]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
