"""Commits requests that have unique keys, each in a transaction of its own: lock the keys, look who holds them, write.

A request that finds all its keys held and wants nothing replaced is answered without a lock.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final
from uuid import UUID

from aftercommit.core.errors import DatabaseUnavailable, Overloaded
from aftercommit.core.settings import Settings
from aftercommit.core.uniqueness import OnConflict
from aftercommit.db import submit, tasks, unique_keys
from aftercommit.db.database import KEPT_PLANS, Database, Fetch
from aftercommit.db.submit import SOON, NewTask, Submission
from aftercommit.db.tasks import TaskRow
from aftercommit.db.unique_keys import Holder
from aftercommit.runtime.notifier import Notifier
from aftercommit.server.submission.results import Created, Fate, Known, SubmittedTask
from aftercommit.server.submission.submission_queue import QueueLimits
from aftercommit.server.submission.unique_plan import HeldKey, Plan, make_plan

TRANSACTIONS_AT_ONCE: Final = 4


class UniqueKeysHeld(Exception):
    """Tasks whose unique keys are held were not to be submitted then; nothing was."""

    def __init__(self, held: Sequence[HeldKey]) -> None:
        super().__init__(f"{len(held)} unique keys are held, the first: {held[0]}")
        self.held = tuple(held)


class UniqueCommit:
    """Connections of its own, opened when they are needed: transactions that wait for one key take none away from
    look-ups. What waits for its turn is bounded in number, bytes and time."""

    def __init__(self, settings: Settings, database: Database, notifier: Notifier, *, limits: QueueLimits) -> None:
        """``database`` is for looks without locks."""
        self._database = database
        self._transactions = Database(settings, application="api", size=TRANSACTIONS_AT_ONCE, planning=KEPT_PLANS)
        self._turns = asyncio.Semaphore(TRANSACTIONS_AT_ONCE)
        self._notifier = notifier
        self._limits = limits
        self._max_answer_bytes = settings.api_max_page_bytes
        # Of what waits and what is under way.
        self._tasks = 0
        self._bytes = 0

    async def submit(self, submission: Submission, *, payload_bytes: int = 0) -> list[SubmittedTask] | None:
        """Commit; a result for each task, or None when another request holds the submission's Idempotency-Key and
        nothing was done.

        Raises UniqueKeysHeld, Overloaded when nothing was done for want of room or time, and what
        ``Database.transaction`` raises.
        """
        if (found := await self._find(submission)) is not None:
            return found
        async with self._turn(len(submission.tasks), payload_bytes):
            return await self._commit(submission)

    async def close(self) -> None:
        """Close the connections; nothing may be under way."""
        await self._transactions.close()

    async def _find(self, submission: Submission) -> list[SubmittedTask] | None:
        """The answer where all is there already and nothing is to be replaced."""
        unique = [task.unique for task in submission.tasks if task.unique is not None]
        replaces = any(each.on_conflict is OnConflict.REPLACE for each in unique)
        if submission.key is not None or replaces or len(unique) < len(submission.tasks):
            return None
        holders = await unique_keys.find(self._database.fetch, list({each.key for each in unique}))
        if any(each.key not in holders for each in unique):
            return None
        rejected = [n for n, each in enumerate(unique) if each.on_conflict is OnConflict.REJECT]
        if rejected:
            raise UniqueKeysHeld([HeldKey(index, holders[unique[index].key].task_id) for index in rejected])
        answers = [(holders[each.key].task_id, Fate.EXISTING) for each in unique]
        rows = await self._read(self._database.fetch, answers)
        return None if rows is None else [Known(rows[task_id], fate) for task_id, fate in answers]

    async def _commit(self, submission: Submission) -> list[SubmittedTask] | None:
        async with self._transactions.transaction(lock_seconds=unique_keys.LOCK_SECONDS) as fetch:
            plan, taken, now = await self._lock_and_look(fetch, submission.tasks)
            # A transaction that does nothing else may commit too. It leaves keys whose tasks do not exist: free ones.
            results = None if plan.refused else await self._write(fetch, submission, plan, taken, now)
        if plan.refused:
            raise UniqueKeysHeld(plan.refused)
        if results is not None:
            self._tell(plan, now)
        return results

    async def _lock_and_look(self, fetch: Fetch, wanted: Sequence[NewTask]) -> tuple[Plan, set[bytes], datetime]:
        """Lock the keys in one statement, and look who holds them in the next: the first one, having waited, would
        not see what was committed meanwhile. Also returns the keys that were taken, and the transaction's time."""
        by_key: dict[bytes, NewTask] = {}
        replaced: set[bytes] = set()
        for task in wanted:
            if task.unique is not None:
                by_key.setdefault(task.unique.key, task)
                if task.unique.on_conflict is OnConflict.REPLACE:
                    replaced.add(task.unique.key)
        taken, now = await unique_keys.lock(fetch, list(by_key.values()))
        held = await _find(fetch, by_key.keys() - taken, replaced)
        return make_plan(wanted, held, now=now), taken, now

    async def _write(
        self, fetch: Fetch, submission: Submission, plan: Plan, taken: set[bytes], now: datetime
    ) -> list[SubmittedTask] | None:
        """Write what is planned; None when the Idempotency-Key turns out to be held, before anything else is done."""
        key, new = submission.key, list(plan.new.values())
        if new or key is not None:
            answered = [task_id for task_id, _ in plan.answers]
            committed = await submit.submit(fetch, [Submission(new, key, answered)])
            if key is not None and key.key not in committed.free_keys:
                return None
        if over := [task for task in new if task.unique is not None and task.unique.key not in taken]:
            await unique_keys.take(fetch, over)
        if plan.replacements:
            replaced = await unique_keys.replace(fetch, list(plan.replacements.values()), now=now)
            assert replaced == len(plan.replacements), "a task that was locked while it waited does not wait any more"
        rows = await self._read(fetch, [answer for answer in plan.answers if answer[1] is not Fate.CREATED])
        if rows is None:
            raise DatabaseUnavailable("A task that held a unique key was deleted at this moment. Try again.")
        return [
            Created(plan.new[task_id], now) if fate is Fate.CREATED else Known(rows[task_id], fate)
            for task_id, fate in plan.answers
        ]

    async def _read(self, fetch: Fetch, answers: Sequence[tuple[UUID, Fate]]) -> Mapping[UUID, TaskRow] | None:
        """The rows of these tasks by id; None when one is gone."""
        ids = list(dict.fromkeys(task_id for task_id, _ in answers))
        rows = await tasks.get_within(fetch, ids, max_bytes=self._max_answer_bytes) if ids else []
        return {row["id"]: row for row in rows} if len(rows) == len(ids) else None

    def _tell(self, plan: Plan, now: datetime) -> None:
        changed = [*plan.new.values(), *plan.replacements.values()]
        due = [task.due_at(now) for task in changed]
        if None in due:
            self._notifier.outbox()
        if any(due_at < now + SOON for due_at in due if due_at is not None):
            self._notifier.due()

    @asynccontextmanager
    async def _turn(self, count: int, payload_bytes: int) -> AsyncIterator[None]:
        limits = self._limits
        if self._tasks and (self._tasks + count > limits.max_tasks or self._bytes + payload_bytes > limits.max_bytes):
            raise Overloaded(
                f"{self._tasks} tasks with {self._bytes} bytes wait for their unique keys already (SUBMIT_QUEUE_TASKS, "
                "SUBMIT_QUEUE_BYTES). Nothing was submitted: try again."
            )
        self._tasks += count
        self._bytes += payload_bytes
        try:
            await self._wait_for_turn()
            try:
                yield
            finally:
                self._turns.release()
        finally:
            self._tasks -= count
            self._bytes -= payload_bytes

    async def _wait_for_turn(self) -> None:
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await self._turns.acquire()
        except TimeoutError:
            raise Overloaded(
                f"Its turn did not come within {self._limits.wait_seconds:g} s (SUBMIT_WAIT_SECONDS). Nothing was "
                "submitted: try again."
            ) from None


async def _find(fetch: Fetch, keys: Set[bytes], replaced: Set[bytes]) -> dict[bytes, Holder]:
    """Who holds these keys. Waiting holders that are to be ``replaced`` are locked: they wait until the end of the
    transaction, unless they were started or ended just now."""
    if not keys:
        return {}
    held = await unique_keys.find(fetch, list(keys))
    if to_lock := [key for key, holder in held.items() if holder.waits and key in replaced]:
        for key in to_lock:
            del held[key]
        held |= await unique_keys.find_and_lock(fetch, to_lock)
    return held
