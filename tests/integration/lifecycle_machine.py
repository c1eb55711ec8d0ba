"""A state machine of the statements that move one task: several connections, interleaved commits, beside a model.

A statement that passes over locked rows must find nothing where another transaction holds the row; one that waits must
decide by what that transaction left.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from uuid_utils.compat import uuid7

from aftercommit.core.features import Feature
from aftercommit.core.outcomes import Ending, Outcome
from aftercommit.core.retries import Delay
from aftercommit.core.states import Event
from aftercommit.core.task_ref import TaskRef
from aftercommit.db import cancels, claims, expiry, record, record_and_claim, schedule, steering, submit
from aftercommit.db.submit import NewTask, Submission
from tests.integration import lifecycle_model as model
from tests.integration.lifecycle_model import BY_BROKER, BY_SCHEDULER, Step, TaskState

WORKERS: Final = ("one", "two")
LOOK_SECONDS: Final = 0.03
"""After so long a statement that has not answered waits for a lock."""

ERROR: Final = '{"type": "Test", "message": "no luck", "traceback": null}'
ENDINGS: Final = (
    (Event.SUCCEED, None),
    (Event.RETRY, BY_BROKER),
    (Event.RETRY, BY_SCHEDULER),
    (Event.FAIL, None),
    (Event.RELEASE, None),
    (Event.SNOOZE, BY_SCHEDULER),
    (Event.STOP, None),
    (Event.CUT, None),
)

Send = Callable[[Any], Awaitable[object]]
"""Sends a statement; what it answers tells whether it did anything."""

FORGET: Final = "; ".join(
    f"DELETE FROM aftercommit.{table}" for table in ("tasks", "attempts", "outbox_rows", "claims", "unique_keys")
)
ROWS: Final = f"""
    SELECT id, status, dispatch, attempt, uncharged, worker, enqueued,
        features & {Feature.CANCELLING:d} <> 0 AS cancelling
    FROM aftercommit.tasks
"""
SENT: Final = """
    SELECT sent.id, sent.dispatch, CASE WHEN dead_reason IS NOT NULL THEN 'dead' WHEN delay_seconds IS NULL THEN 'now'
        ELSE 'delayed' END AS how
    FROM aftercommit.outbox_rows CROSS JOIN LATERAL unnest(task_ids, dispatches) AS sent (id, dispatch)
    ORDER BY outbox_rows.id
"""


@dataclass(slots=True, eq=False)
class Transaction:
    """A statement of one task in a transaction of its own. ``leads_to`` is None until the statement is answered."""

    connection: asyncpg.Connection
    task_id: UUID
    step: Step
    answer: asyncio.Task[object]
    leads_to: TaskState | None = None


class Lifecycle(RuleBasedStateMachine):
    """At most one transaction holds a task, and at most one waits for it."""

    runner: asyncio.Runner
    admin: asyncpg.Connection
    connections: Sequence[asyncpg.Connection]

    def __init__(self) -> None:
        super().__init__()
        self.tasks: dict[UUID, TaskState] = {}
        self.holds: dict[UUID, Transaction] = {}
        self.waits: dict[UUID, Transaction] = {}
        self.idle = list(self.connections)

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    def teardown(self) -> None:
        self.run(self._forget())

    async def _forget(self) -> None:
        for transaction in (*self.holds.values(), *self.waits.values()):
            await asyncio.wait([transaction.answer])
            await transaction.connection.execute("ROLLBACK")
        await self.admin.execute(FORGET)

    @rule(later=st.booleans(), deadline=st.booleans())
    def submit(self, later: bool, deadline: bool) -> None:
        new = NewTask(
            id=uuid7(),
            type="test",
            payload="{}",
            delay=timedelta(days=1) if later else None,
            expires_in=timedelta(days=2) if deadline else None,
        )
        self.run(submit.submit(self.admin.fetch, [Submission([new])]))
        self.tasks[new.id] = model.submitted(later=later)

    @precondition(lambda self: self.tasks)
    @rule(pick=st.integers(0, 99), commit=st.booleans(), worker=st.sampled_from(WORKERS), stale=st.integers(0, 9))
    def claim(self, pick: int, commit: bool, worker: str, stale: int) -> None:
        task_id = self._pick(pick)
        dispatch = self.tasks[task_id].dispatch - (stale == 0)

        async def send(fetch: Any) -> object:
            return await claims.claim(fetch, [TaskRef(task_id, dispatch)], worker=worker, claim_id=uuid7())

        self._pass_over(task_id, model.claim(worker, dispatch), send, commit=commit)

    @precondition(lambda self: self.tasks)
    @rule(
        pick=st.integers(0, 99), commit=st.booleans(), ending=st.sampled_from(ENDINGS), late=st.integers(0, 9),
        way=st.sampled_from(["record", "with a claim", "own"]),
    )  # fmt: skip
    def record(self, pick: int, commit: bool, ending: tuple[Ending, int | None], late: int, way: str) -> None:
        task_id = self._pick(pick)
        task = self.tasks[task_id]
        outcome, step = self._outcome(task_id, task, ending, late=late == 0, way=way)
        if way == "own":
            self._wait_for(task_id, step, lambda fetch: record.record_own(fetch, outcome))
            return

        async def send(fetch: Any) -> object:
            if way == "record" or not record_and_claim.fits(outcome):
                return await record.record(fetch, [outcome])
            nothing = [TaskRef(UUID(int=1), 1)]
            _, taken = await record_and_claim.record_and_claim(
                fetch, [outcome], nothing, closed=[], worker=outcome.worker, claim_id=uuid7()
            )
            return taken

        self._pass_over(task_id, step, send, commit=commit)

    def _outcome(
        self, task_id: UUID, task: TaskState, ending: tuple[Ending, int | None], *, late: bool, way: str
    ) -> tuple[Outcome, Step]:
        event, delay = ending
        worker, attempt = task.worker or WORKERS[0], task.attempt - late
        outcome = Outcome(
            task_id=task_id,
            attempt=attempt,
            worker=worker,
            ending=event,
            result="1" if event is Event.SUCCEED else None,
            error=None if event is Event.SUCCEED else ERROR,
            delay=Delay(delay, by_broker=delay == BY_BROKER) if delay else None,
            reason="no luck",
        )
        # What records a success beside a claim leaves a task that is to be cancelled to ``record``.
        own = way == "own" or (way == "with a claim" and event is Event.SUCCEED)
        return outcome, model.record(event, worker, attempt, delay=delay, own=own)

    @precondition(lambda self: self.tasks)
    @rule(
        pick=st.integers(0, 99),
        name=st.sampled_from(["cancel", "run_now", "reschedule", "resubmit", "fail", "succeed"]),
    )
    def steer(self, pick: int, name: str) -> None:
        task_id = self._pick(pick)
        steps: dict[str, tuple[Step, Send]] = {
            "cancel": (model.cancel, lambda fetch: cancels.cancel(fetch, task_id)),
            "run_now": (model.run_now, lambda fetch: schedule.run_now(fetch, task_id)),
            "reschedule": (
                model.reschedule,
                lambda fetch: schedule.reschedule(fetch, task_id, run_at=None, delay=timedelta(days=1)),
            ),
            "resubmit": (self.resubmit_step(task_id), lambda fetch: steering.resubmit(fetch, task_id)),
            "fail": (
                model.complete(failed=True),
                lambda fetch: steering.complete(fetch, task_id, result=None, error=ERROR, reason="by hand"),
            ),
            "succeed": (
                model.complete(failed=False),
                lambda fetch: steering.complete(fetch, task_id, result="1", error=None, reason=""),
            ),
        }
        self._wait_for(task_id, *steps[name])

    @precondition(lambda self: self.tasks)
    @rule(pick=st.integers(0, 99))
    def time_passes(self, pick: int) -> None:
        """A task falls due."""
        task_id = self._pick(pick)
        if task_id not in self.holds and not self.tasks[task_id].enqueued:
            late = (
                "UPDATE aftercommit.tasks SET due_at = now() - interval '1 second' WHERE id = $1 AND due_at IS NOT NULL"
            )
            if self.run(self.admin.execute(late, task_id)) == "UPDATE 1":
                self.tasks[task_id] = replace(self.tasks[task_id], is_due=True)

    @precondition(lambda self: self.tasks)
    @rule(pick=st.integers(0, 99))
    def deadline_passes(self, pick: int) -> None:
        task_id = self._pick(pick)
        if task_id not in self.holds:
            late = "UPDATE aftercommit.tasks SET expires_at = now() - interval '1 second' WHERE id = $1 RETURNING id"
            self.run(self.admin.fetch(late, task_id))
            self.tasks[task_id] = replace(self.tasks[task_id], deadline_passed=True)

    @rule(sweep=st.booleans())
    def send_due(self, sweep: bool) -> None:
        within = None if sweep else timedelta(minutes=1)
        sent = self.run(schedule.send_due(self.admin.fetch, limit=100, within=within))
        assert sent == self._move_free(model.fall_due)

    @rule(sweep=st.booleans())
    def expire(self, sweep: bool) -> None:
        within = None if sweep else timedelta(minutes=1)
        expired = self.run(expiry.expire(self.admin.fetch, limit=100, within=within))
        assert expired == self._move_free(model.expire)

    @precondition(lambda self: self.holds)
    @rule(pick=st.integers(0, 99), commit=st.booleans())
    def end(self, pick: int, commit: bool) -> None:
        """A transaction ends; who waited for it goes on with what it left."""
        task_id = list(self.holds)[pick % len(self.holds)]
        self.run(self._end(task_id, commit=commit))

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        rows = {row["id"]: row for row in self.run(self.admin.fetch(ROWS))}
        assert rows.keys() == self.tasks.keys()
        for task_id, task in self.tasks.items():
            for name, value in rows[task_id].items():
                assert name == "id" or value == getattr(task, name), (name, value, task)

    @invariant()
    def messages_are_as_the_model_says(self) -> None:
        sent: dict[UUID, list[tuple[int, str]]] = {task_id: [] for task_id in self.tasks}
        for row in self.run(self.admin.fetch(SENT)):
            sent[row["id"]].append((row["dispatch"], row["how"]))
        assert sent == {task_id: list(task.sent) for task_id, task in self.tasks.items()}

    def resubmit_step(self, _task_id: UUID) -> Step:
        """What an operator's retry does to a task, without a look at a unique key."""
        return model.resubmit

    def _pick(self, pick: int) -> UUID:
        return list(self.tasks)[pick % len(self.tasks)]

    def _move_free(self, step: Step) -> int:
        """Move what nobody holds; how many that were."""
        free = {task_id: step(task) for task_id, task in self.tasks.items() if task_id not in self.holds}
        moved = {task_id: task for task_id, task in free.items() if task is not None}
        self.tasks |= moved
        return len(moved)

    def _pass_over(self, task_id: UUID, step: Step, send: Send, *, commit: bool) -> None:
        """A statement that passes over locked rows."""
        if task_id in self.holds:
            assert not self.run(send(self.admin.fetch))
        elif commit or not self.idle:
            leads_to = step(self.tasks[task_id])
            assert bool(self.run(send(self.admin.fetch))) == (leads_to is not None)
            self.tasks[task_id] = leads_to or self.tasks[task_id]
        else:
            self.run(self._begin(task_id, step, send))

    def _wait_for(self, task_id: UUID, step: Step, send: Send) -> None:
        """A statement that waits for a locked row."""
        if self.idle and task_id not in self.waits:
            self.run(self._begin(task_id, step, send))

    async def _begin(self, task_id: UUID, step: Step, send: Send) -> None:
        connection = self.idle.pop()
        await connection.execute("BEGIN")
        answer: asyncio.Task[object] = asyncio.ensure_future(send(connection.fetch))
        transaction = Transaction(connection, task_id, step, answer)
        # What does not fit the committed row has nothing to wait for.
        if task_id in self.holds and step(self.tasks[task_id]) is not None:
            done, _ = await asyncio.wait([answer], timeout=LOOK_SECONDS)
            assert not done, "it did not wait for the transaction that holds the row"
            self.waits[task_id] = transaction
        else:
            await self._answered(transaction)

    async def _answered(self, transaction: Transaction) -> None:
        """The statement had its row, and did what the model says."""
        leads_to = transaction.step(self.tasks[transaction.task_id])
        async with asyncio.timeout(5):
            assert bool(await transaction.answer) == (leads_to is not None)
        if leads_to is None:
            await transaction.connection.execute("COMMIT")
            self.idle.append(transaction.connection)
        else:
            transaction.leads_to = leads_to
            self.holds[transaction.task_id] = transaction

    async def _end(self, task_id: UUID, *, commit: bool) -> None:
        transaction = self.holds.pop(task_id)
        await transaction.connection.execute("COMMIT" if commit else "ROLLBACK")
        self.idle.append(transaction.connection)
        if commit and transaction.leads_to is not None:
            self.tasks[task_id] = transaction.leads_to
        if (waiting := self.waits.pop(task_id, None)) is not None:
            await self._answered(waiting)
