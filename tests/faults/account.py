"""The account of a drained load: what was acknowledged, what became of it, and what ran how often and why."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import asyncpg

from tests.faults.kinds import Kind

FINAL: Final = ("succeeded", "failed", "cancelled", "expired")
SHOWN: Final = 5

CANCELLED: Final = frozenset({"cancelled"})
TAKEN: Final = (200, 202)
"""The answers to a cancel after which the task can end in no other way."""


OLD: Final = "fault.old"
"""The type of tasks that were there before the load, which are not part of the account."""

_TASKS: Final = " UNION ALL ".join(
    f"SELECT id, type, status, attempt, uncharged, dispatch, finished_at FROM {table} WHERE type <> '{OLD}'"
    for table in ("aftercommit.tasks", "fault_deleted_tasks")
)
_ATTEMPTS: Final = " UNION ALL ".join(
    f"SELECT task_id, attempt, outcome, error->>'type' AS error FROM {table}"
    for table in ("aftercommit.attempts", "fault_deleted_attempts")
)


@dataclass(slots=True)
class Account:
    """``figures`` are what is printed, in order; ``failures`` say what does not add up: none, when all does."""

    figures: dict[str, object] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def expect(self, what: str, found: object, expected: object = 0) -> None:
        self.figures[what] = found
        if found != expected:
            self.failures.append(f"{what}: {found}, should be {expected}")

    def expect_none(self, what: str, offenders: Mapping[UUID, str]) -> None:
        """``offenders`` maps a task to what is wrong with it."""
        self.figures[what] = len(offenders)
        if offenders:
            shown = "; ".join(f"{task_id} {flaw}" for task_id, flaw in list(offenders.items())[:SHOWN])
            self.failures.append(f"{what}: {len(offenders)}, should be 0: {shown}")

    def lines(self) -> list[str]:
        width = max(map(len, self.figures))
        table = [f"  {name:<{width}}  {value}" for name, value in self.figures.items()]
        return [*table, *(f"  DOES NOT ADD UP: {failure}" for failure in self.failures)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that the database holds after a load, and what retention has deleted of it."""

    tasks: dict[UUID, asyncpg.Record]
    attempts: dict[UUID, dict[int, asyncpg.Record]]
    effects: dict[UUID, Counter[int]]
    transactional: Counter[UUID]
    unpublished: int
    parked: int
    claims: int


async def observe(connection: asyncpg.Connection) -> Seen:
    attempts: dict[UUID, dict[int, asyncpg.Record]] = defaultdict(dict)
    for row in await connection.fetch(_ATTEMPTS):
        attempts[row["task_id"]][row["attempt"]] = row
    effects: dict[UUID, Counter[int]] = defaultdict(Counter)
    for row in await connection.fetch("SELECT task_id, attempt FROM fault_effects"):
        effects[row["task_id"]][row["attempt"]] += 1
    tasks = await connection.fetch(_TASKS)
    return Seen(
        tasks={row["id"]: row for row in tasks},
        attempts=attempts,
        effects=effects,
        transactional=Counter(row["task_id"] for row in await connection.fetch("SELECT * FROM fault_transactional")),
        unpublished=await connection.fetchval("SELECT count(*) FROM aftercommit.outbox_rows WHERE failed_at IS NULL"),
        claims=await connection.fetchval("SELECT count(*) FROM aftercommit.claims"),
        parked=await connection.fetchval("SELECT count(*) FROM aftercommit.outbox_rows WHERE failed_at IS NOT NULL"),
    )


def check(
    submitted: Mapping[UUID, Kind], seen: Seen, account: Account, *, cancels: Mapping[UUID, int] | None = None
) -> None:
    """Hold what was acknowledged against what the database holds. ``cancels`` are the answers to cancels, by task."""
    _check_totals(submitted, seen, account)
    _check_outcomes(submitted, seen, account, cancels or {})
    _check_effects(seen, account)
    _check_transactional(submitted, seen, account)
    account.expect("running at the end", sum(task["status"] == "running" for task in seen.tasks.values()))
    account.expect("claims at the end", seen.claims)
    account.expect("outbox rows at the end", seen.unpublished)
    account.expect("parked outbox rows", seen.parked)


def _check_totals(submitted: Mapping[UUID, Kind], seen: Seen, account: Account) -> None:
    lost = {}
    for task_id in submitted:
        task = seen.tasks.get(task_id)
        if task is None or task["status"] not in FINAL or task["finished_at"] is None:
            lost[task_id] = f"is {dict(task)}" if task else "does not exist"
    account.expect_none("lost: acknowledged, not final", lost)
    statuses = Counter(task["status"] for task in seen.tasks.values())
    account.figures["statuses"] = ", ".join(f"{status} {count}" for status, count in sorted(statuses.items()))
    strangers = dict.fromkeys(seen.tasks.keys() - submitted.keys(), "exists")
    strangers |= dict.fromkeys(seen.effects.keys() - submitted.keys(), "ran")
    account.expect_none("unexpected: never acknowledged", strangers)


def _check_outcomes(submitted: Mapping[UUID, Kind], seen: Seen, account: Account, cancels: Mapping[UUID, int]) -> None:
    """One end each, the right one, and a record of each attempt before it."""
    wrong, twice = {}, {}
    for task_id, kind in submitted.items():
        task = seen.tasks.get(task_id)
        if task is None or task["status"] not in FINAL:
            continue
        answer = cancels.get(task_id)
        if task["status"] not in (CANCELLED if answer in TAKEN else kind.endings):
            wrong[task_id] = f"{kind}, cancel: {answer}, {task['status']} after {_history(seen, task_id)}"
        # The attempt that succeeded stands in the task, all others in their own rows.
        recorded = task["attempt"] - (task["status"] == "succeeded")
        ends = Counter(row["outcome"] for row in seen.attempts.get(task_id, {}).values())
        if sorted(seen.attempts.get(task_id, {})) != list(range(1, recorded + 1)) or ends["succeeded"]:
            twice[task_id] = f"{task['status']} at attempt {task['attempt']} after {_history(seen, task_id)}"
        elif ends["failed"] != (task["status"] == "failed"):
            twice[task_id] = f"{task['status']} with {ends['failed']} recorded failures"
    account.expect_none("ended in another way than its kind", wrong)
    account.expect_none("recorded twice, or an attempt not at all", twice)


def _check_effects(seen: Seen, account: Account) -> None:
    again, unexplained, unrun = {}, {}, {}
    causes: Counter[str] = Counter()
    for task_id, executions in seen.effects.items():
        task = seen.tasks.get(task_id)
        recorded = seen.attempts.get(task_id, {})
        for attempt, count in sorted(executions.items()):
            if count > 1:
                again[task_id] = f"ran attempt {attempt} {count} times"
            if task is None or (attempt not in recorded and attempt != task["attempt"]):
                unexplained[task_id] = f"ran attempt {attempt}, of which nothing is recorded"
            elif attempt != task["attempt"]:
                causes[f"{recorded[attempt]['outcome']} {recorded[attempt]['error'] or ''}".strip()] += 1
    for task_id, task in seen.tasks.items():
        if task["status"] == "succeeded" and task["attempt"] not in seen.effects.get(task_id, {}):
            unrun[task_id] = f"succeeded at attempt {task['attempt']}, which had no effect"
    account.figures["executions"] = sum(sum(executions.values()) for executions in seen.effects.values())
    account.figures["run again after"] = ", ".join(f"{cause} {count}" for cause, count in causes.most_common()) or "-"
    account.expect_none("one attempt run twice", again)
    account.expect_none("executions without a cause", unexplained)
    account.expect_none("succeeded without running", unrun)


def _check_transactional(submitted: Mapping[UUID, Kind], seen: Seen, account: Account) -> None:
    wrong = {}
    for task_id, kind in submitted.items():
        if kind in (Kind.TRANSACTIONAL, Kind.DEADLINE) and task_id in seen.tasks:
            rows, status = seen.transactional[task_id], seen.tasks[task_id]["status"]
            if rows != (status == "succeeded"):
                wrong[task_id] = f"is {status} with {rows} rows"
    wrong |= dict.fromkeys(seen.transactional.keys() - submitted.keys(), "was never acknowledged")
    account.figures["transactional effects"] = sum(seen.transactional.values())
    account.expect_none("transactional effects not exactly once", wrong)


def _history(seen: Seen, task_id: UUID) -> str:
    rows = sorted(seen.attempts.get(task_id, {}).items())
    return ", ".join(f"{attempt} {row['outcome']} {row['error'] or ''}".strip() for attempt, row in rows) or "nothing"
