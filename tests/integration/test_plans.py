"""Hot statements use their index, whatever the tables hold. A new one is a line in ``STATEMENTS`` or ``KEPT``.

PLANS_TASKS says how many tasks there are: ten million take some minutes to make.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from aftercommit.core.outcomes import Outcome
from aftercommit.core.queues import Priority, WorkQueue
from aftercommit.core.schedules import CatchUp, DueTick, Overlap, Policy, Run, RunKind, RunOutcome, Timing
from aftercommit.core.setting_types import SchemaCheck
from aftercommit.core.settings import Settings
from aftercommit.core.states import Event, Status
from aftercommit.core.task_ref import TaskRef
from aftercommit.core.uniqueness import HeldWhile, OnConflict, Scope, Uniqueness
from aftercommit.db import (
    announcements,
    broker_loss,
    cancels,
    claims,
    eager_rows,
    expiry,
    idempotency,
    listing,
    outbox,
    outbox_counts,
    parked,
    progress,
    queue_clearing,
    queue_counts,
    queues,
    reconcile,
    record,
    record_and_claim,
    rescue,
    results,
    retention,
    schedule,
    schedule_runs,
    schedules,
    steering,
    submit,
    task_types,
    tasks,
    unique_key_sweep,
    unique_keys,
    waiting,
    worker_views,
)
from aftercommit.db.database import FRESH_PLANS, KEPT_PLANS, Fetch, session_settings
from aftercommit.db.engine import database_url
from aftercommit.db.listing import TaskFilter
from aftercommit.db.progress import Progress
from aftercommit.db.retention import Kind
from aftercommit.db.schedule_runs import Advance, Entry
from aftercommit.db.schedules import ScheduleSpec
from aftercommit.db.submit import Eager, IdempotencyKey, NewTask, Submission
from aftercommit.db.task_types import DeclaredType
from aftercommit.devstack.servers import Servers
from aftercommit.server.maintenance import task_pruner
from tests.integration.conftest import connect_admin

DATABASE = "aftercommit_plans"

TASKS = int(os.environ.get("PLANS_TASKS", "20000"))
pytestmark = pytest.mark.timeout(max(120, TASKS // 5_000))

# A day's work: nearly all of it done, a backlog, some failures, a few tags, a few tasks that wait for the scheduler.
FILL = f"""
    INSERT INTO aftercommit.tasks (id, type, queue, priority, status, attempt, tags, payload, error, worker,
        enqueued, due_at,
        created_at, queued_at, started_at, finished_at)
    SELECT (lpad(to_hex((1767225600000 + n * 4000)::bigint), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid,
        CASE n % 2000 WHEN 999 THEN 'rare' ELSE 'type.' || n % 20 END,
        CASE n % 10 WHEN 0 THEN 'emails' ELSE 'tasks' END,
        (ARRAY['high', 'medium', 'low'])[1 + n % 3], status, (status <> 'queued')::int,
        CASE n % 50 WHEN 0 THEN ARRAY['order:' || n] ELSE '{{}}' END, '{{"a": 1}}',
        CASE WHEN status IN ('failed', 'cancelled', 'retrying') THEN '{{"type": "A", "message": "b"}}'::json END,
        CASE WHEN status <> 'queued' THEN 'worker' END, n % 100 <> 7 OR status <> 'retrying',
        CASE WHEN status = 'retrying' THEN created_at + interval '1 minute' END, created_at, created_at, created_at,
        CASE WHEN status IN ('succeeded', 'failed', 'cancelled') THEN created_at END
    FROM (
        SELECT n, to_timestamp(1767225600 + n * 4) AS created_at,
            CASE WHEN n > {TASKS} - 1000 THEN (ARRAY['queued', 'running', 'retrying'])[1 + n % 3]
                WHEN n % 40 = 0 THEN 'failed' WHEN n % 200 = 1 THEN 'cancelled' ELSE 'succeeded' END AS status
        FROM generate_series(1::bigint, {TASKS}) AS n
    ) AS made;
    UPDATE aftercommit.tasks SET enqueued = false WHERE id IN (SELECT id FROM aftercommit.tasks
        WHERE status = 'retrying' LIMIT 50);
    UPDATE aftercommit.tasks SET result = 'null', result_expires_at = finished_at + interval '1 day'
        WHERE status = 'succeeded' AND type = 'type.1';
    INSERT INTO aftercommit.attempts (task_id, attempt, outcome, error)
        SELECT id, 1, 'failed', error FROM aftercommit.tasks;
    INSERT INTO aftercommit.progress (task_id, attempt, fraction, message)
        SELECT id, 1, 0.5, 'page 4 of 8' FROM aftercommit.tasks;
    INSERT INTO aftercommit.outbox_rows (work_queue, delay_seconds, task_ids, dispatches, failed_at, eager_until)
    SELECT 'tasks.' || priority, CASE WHEN status = 'failed' THEN 5 END, ARRAY[id], ARRAY[1],
        CASE WHEN status = 'cancelled' THEN now() END,
        CASE WHEN n % 10 = 3 THEN now() + interval '1 second' * (500 - n % 1000) END
    FROM (SELECT *, row_number() OVER () AS n FROM aftercommit.tasks) AS sent;
    INSERT INTO aftercommit.idempotency_keys (key, request_hash, task_ids, created_at)
    SELECT id::text, '\\x00', ARRAY[id], CASE type WHEN 'type.1' THEN now() - interval '25 hours' ELSE now() END
    FROM aftercommit.tasks;
    INSERT INTO aftercommit.unique_keys (key, task_id, held_while, held_until)
    SELECT sha256(id::text::bytea), id, 'unfinished', CASE type WHEN 'type.1' THEN now() END FROM aftercommit.tasks;
    INSERT INTO aftercommit.parked_tasks (task_id, dispatch, type, queue, priority, looked, look_at)
    SELECT id, 1, type, queue, priority, '{{"worker"}}', now() + interval '1 second' * (n - 100)
    FROM (SELECT *, row_number() OVER () AS n FROM aftercommit.tasks) AS numbered WHERE n <= 10000;
    INSERT INTO aftercommit.task_types (type, schema, options, declared_by)
    SELECT 'type.' || n, '{{}}', '{{}}', 'worker' FROM generate_series(1, 10000) AS n;
    INSERT INTO aftercommit.schedules
        (id, name, interval_seconds, task, catch_up, catch_up_max, catch_up_seconds, overlap, next_tick, look_at)
    SELECT id, id::text, 60, '{{}}', 'one', 1, 1, 'allow', now(), now() + interval '1 second' * (n - 100)
    FROM (SELECT id, row_number() OVER () AS n FROM aftercommit.tasks) AS numbered WHERE n <= 10000;
    INSERT INTO aftercommit.schedule_runs (schedule_id, tick, kind, first_tick, due_at, outcome, decided_at)
    SELECT schedules.id, moment, 'tick', moment, moment, 'created', moment
    FROM (SELECT id FROM aftercommit.schedules ORDER BY id LIMIT 50) AS schedules,
        generate_series(now() - interval '400 minutes', now(), interval '1 minute') AS moment;
"""

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
IDS = [UUID(int=(1767225600000 + n * 4000) << 80 | 0x7 << 76 | 0x2 << 62 | n) for n in range(1, 101)]
LAST_ID = UUID(int=(1767225600000 + TASKS * 4000) << 80)
OUTCOMES = [Outcome(task_id=task_id, attempt=1, worker="worker", ending=Event.SUCCEED, result="1") for task_id in IDS]

PURGE = {
    "queue": "emails",
    "priority": "high",
    "type": None,
    "created_before": NOON,
    "after_priority": "",
    "after_id": UUID(int=0),
}
REFS = [TaskRef(task_id, 1) for task_id in IDS]
KEYS = [hashlib.sha256(str(task_id).encode()).digest() for task_id in IDS]
UNIQUE = [
    NewTask(
        id=task_id,
        type="a",
        payload="{}",
        unique=Uniqueness(
            key=key, scope=Scope.TYPE, held_while=HeldWhile.UNFINISHED, on_conflict=OnConflict.RETURN_EXISTING
        ),
    )
    for task_id, key in zip(IDS, KEYS, strict=True)
]
DUE = DueTick(NOON, NOON)
RUN = Run(first_tick=NOON, tick=NOON, due_at=NOON, folded=0, outcome=RunOutcome.CREATED)
ENTRY = Entry(schedule_id=IDS[0], kind=RunKind.TICK, run=RUN)
ADVANCE = Advance(
    schedule_id=IDS[0], next_tick=DUE, buffered_tick=None, buffered_folded=0, latest_task_id=None, started=ENTRY
)
SPEC = ScheduleSpec(
    name="a",
    timing=Timing(cron=None, zone=None, interval_seconds=60),
    policy=Policy(catch_up=CatchUp.ONE, catch_up_max=1, catch_up_seconds=1, overlap=Overlap.ALLOW),
    task="{}",
)

Call = Callable[[Fetch], Awaitable[object]]


def list_by(**wanted: Any) -> Call:
    return lambda fetch: listing.list_newest(fetch, TaskFilter(**wanted), before=None, limit=51)


def find_over(kind: Kind) -> Call:
    return lambda fetch: retention.find(
        fetch, kind, retention_seconds=60, after=IDS[0], until=LAST_ID, limit=task_pruner.BATCH
    )


STATEMENTS: dict[str, tuple[Call, set[str]]] = {
    "get": (lambda fetch: tasks.get(fetch, IDS[:1]), {"tasks_pkey", "progress_pkey"}),
    "get many": (lambda fetch: tasks.get(fetch, IDS), {"tasks_pkey", "progress_pkey"}),
    "finished_among": (lambda fetch: tasks.finished_among(fetch, IDS), {"tasks_pkey"}),
    "list_attempts": (lambda fetch: tasks.list_attempts(fetch, IDS[0]), {"attempts_pkey"}),
    "cancels.cancel": (lambda fetch: cancels.cancel(fetch, IDS[0]), {"tasks_pkey"}),
    "cancels.cancel_free": (
        lambda fetch: cancels.cancel_free(fetch, dict.fromkeys(IDS, "why")),
        {"tasks_pkey"},
    ),
    "resubmit": (
        lambda fetch: steering.resubmit(fetch, IDS[0], payload="{}"),
        {"tasks_pkey", "attempts_pkey"},
    ),
    "complete": (
        lambda fetch: steering.complete(fetch, IDS[0], result="1", error=None, reason=""),
        {"tasks_pkey"},
    ),
    "list": (list_by(), {"tasks_pkey"}),
    "list the next page": (
        lambda fetch: listing.list_newest(fetch, TaskFilter(), before=IDS[50], limit=51),
        {"tasks_pkey"},
    ),
    "list succeeded": (list_by(status=Status.SUCCEEDED), {"tasks_pkey"}),
    "list failed": (list_by(status=Status.FAILED), {"tasks_unsuccessful"}),
    "list expired, of which there are none": (list_by(status=Status.EXPIRED), {"tasks_unsuccessful"}),
    "list queued": (list_by(status=Status.QUEUED), {"tasks_unfinished"}),
    "list scheduled, of which there are none": (list_by(status=Status.SCHEDULED), {"tasks_scheduled"}),
    "list a backlog": (
        list_by(status=Status.QUEUED, queue="emails", priority=Priority.HIGH),
        {"tasks_unfinished"},
    ),
    "list a type": (list_by(type="rare"), {"tasks_by_type"}),
    "list a frequent type": (list_by(type="type.3"), {"tasks_by_type"}),
    "list an unknown type": (list_by(type="unknown"), {"tasks_by_type"}),
    "list a tag": (list_by(tag="order:100"), {"tasks_by_tag"}),
    "list a period": (
        list_by(created_from=NOON, created_before=NOON + timedelta(hours=1)),
        {"tasks_pkey"},
    ),
    "list a period's failures": (list_by(status=Status.FAILED, created_from=NOON), {"tasks_unsuccessful"}),
    "outbox_counts.list_failed": (
        lambda fetch: outbox_counts.list_failed(fetch, after=0, limit=100),
        {"outbox_failed"},
    ),
    "outbox_counts.requeue": (lambda fetch: outbox_counts.requeue(fetch, None), {"outbox_failed"}),
    "queue_counts.count": (
        queue_counts.count,
        {"tasks_unfinished", "tasks_scheduled", "tasks_failed", "tasks_pkey"},
    ),
    "schedule.send_due": (
        lambda fetch: schedule.send_due(fetch, limit=1000, within=timedelta(minutes=1)),
        {"tasks_due"},
    ),
    "schedule.send_due, whatever is due": (lambda fetch: schedule.send_due(fetch, limit=1000), {"tasks_due"}),
    "schedule.run_now": (lambda fetch: schedule.run_now(fetch, IDS[0]), {"tasks_pkey"}),
    "schedule.reschedule": (
        lambda fetch: schedule.reschedule(fetch, IDS[0], run_at=NOON, delay=None),
        {"tasks_pkey"},
    ),
    "schedule.seconds_until_next": (schedule.seconds_until_next, {"tasks_due"}),
    "expiry.expire": (
        lambda fetch: expiry.expire(fetch, limit=1000, within=timedelta(minutes=1)),
        {"tasks_expiring"},
    ),
    "expiry.expire, all": (lambda fetch: expiry.expire(fetch, limit=1000), {"tasks_expiring"}),
    "expiry.seconds_until_next": (expiry.seconds_until_next, {"tasks_expiring"}),
    "record.record_own": (lambda fetch: record.record_own(fetch, OUTCOMES[0]), {"tasks_pkey"}),
    "schedules.get": (lambda fetch: schedules.get(fetch, "a"), {"schedules_name_key"}),
    "schedules.list_page": (
        lambda fetch: schedules.list_page(fetch, after="a", limit=50, max_bytes=4_000_000),
        {"schedules_name_key"},
    ),
    "schedules.lock": (lambda fetch: schedules.lock(fetch, "a"), {"schedules_name_key"}),
    "schedules.last_tick": (lambda fetch: schedules.last_tick(fetch, IDS[0]), {"schedule_runs_pkey"}),
    "schedules.create": (lambda fetch: schedules.create(fetch, IDS[0], SPEC, DUE), {"schedules_name_key"}),
    "schedules.replace": (lambda fetch: schedules.replace(fetch, IDS[0], SPEC, DUE), {"schedules_pkey"}),
    "schedules.pause": (lambda fetch: schedules.pause(fetch, "a"), {"schedules_name_key"}),
    "schedules.resume": (lambda fetch: schedules.resume(fetch, "a"), {"schedules_name_key"}),
    "schedules.delete": (lambda fetch: schedules.delete(fetch, "a"), {"schedules_name_key"}),
    "schedules.note_declarer": (
        lambda fetch: schedules.note_declarer(fetch, IDS[0], SPEC),
        {"schedules_pkey"},
    ),
    "schedule_runs.seconds_until_next": (schedule_runs.seconds_until_next, {"schedules_due"}),
    "schedule_runs.lock_due": (
        lambda fetch: schedule_runs.lock_due(fetch, limit=100, passing_over=IDS[:2]),
        {"schedules_due"},
    ),
    "schedule_runs.unfinished": (lambda fetch: schedule_runs.unfinished(fetch, IDS), {"tasks_pkey"}),
    "schedule_runs.advance": (
        lambda fetch: schedule_runs.advance(fetch, [ADVANCE], [ENTRY]),
        {"schedules_pkey", "schedule_runs_pkey"},
    ),
    "schedule_runs.done": (
        lambda fetch: schedule_runs.done(fetch, IDS[0], first=NOON, last=NOON + timedelta(hours=1)),
        {"schedule_runs_pkey"},
    ),
    "schedule_runs.list_page": (
        lambda fetch: schedule_runs.list_page(fetch, IDS[0], before=None, limit=51),
        {"schedule_runs_pkey"},
    ),
    "schedule_runs.prune": (
        lambda fetch: schedule_runs.prune(fetch, retention_seconds=23_400, limit=100),
        {"schedule_runs_by_age", "schedule_runs_pkey"},
    ),
    "announcements.queues": (lambda fetch: announcements.queues(fetch, ["tasks"]), {"queues_pkey"}),
    "announcements.limits": (
        lambda fetch: announcements.limits(fetch, max_payload_bytes=1_000, schema_check=SchemaCheck.WARN),
        {"shared_settings_pkey"},
    ),
    "task_types.declare": (
        lambda fetch: task_types.declare(fetch, [DeclaredType("echo", None, "{}", "{}")], worker="w"),
        {"task_types_pkey"},
    ),
    "task_types.list_page": (
        lambda fetch: task_types.list_page(fetch, after="a", limit=51),
        {"task_types_pkey"},
    ),
    "task_types.get": (lambda fetch: task_types.get(fetch, "echo"), {"task_types_pkey"}),
    "task_types.details": (lambda fetch: task_types.details(fetch, ["echo"]), {"task_types_pkey"}),
    "idempotency.get": (lambda fetch: idempotency.get(fetch, "k"), {"idempotency_keys_pkey"}),
    "idempotency.prune": (lambda fetch: idempotency.prune(fetch, limit=10), {"idempotency_keys_by_age"}),
    "unique_keys.find": (lambda fetch: unique_keys.find(fetch, KEYS), {"unique_keys_pkey", "tasks_pkey"}),
    "unique_keys.lock_own": (
        lambda fetch: unique_keys.lock_own(fetch, IDS[0]),
        {"unique_keys_pkey", "tasks_pkey"},
    ),
    "unique_keys.take_own": (
        lambda fetch: unique_keys.take_own(fetch, IDS[0]),
        {"unique_keys_pkey", "tasks_pkey"},
    ),
    "unique_key_sweep.find": (
        lambda fetch: unique_key_sweep.find(fetch, after=b"", limit=100),
        {"unique_keys_pkey", "tasks_pkey"},
    ),
    "unique_key_sweep.lock": (lambda fetch: unique_key_sweep.lock(fetch, KEYS), {"unique_keys_pkey"}),
    "unique_key_sweep.delete": (
        lambda fetch: unique_key_sweep.delete(fetch, KEYS),
        {"unique_keys_pkey", "tasks_pkey"},
    ),
    "reconcile.find_passed_over": (
        lambda fetch: reconcile.find_passed_over(
            fetch, WorkQueue("emails", Priority.HIGH), after=UUID(int=0), until=IDS[99], before=NOON, limit=1_000
        ),
        {"tasks_unfinished"},
    ),
    "reconcile.resend": (lambda fetch: reconcile.resend(fetch, IDS, before=NOON), {"tasks_pkey"}),
    "reconcile.unpublished_since": (
        lambda fetch: reconcile.unpublished_since(fetch, WorkQueue("emails", Priority.HIGH)),
        {"outbox_unpublished"},
    ),
    "parked.lock_due": (
        lambda fetch: parked.lock_due(fetch, limit=100),
        {"parked_tasks_by_look", "tasks_pkey"},
    ),
    "parked.forget": (lambda fetch: parked.forget(fetch, IDS), {"parked_tasks_pkey"}),
    "parked.look_later": (
        lambda fetch: parked.look_later(fetch, dict.fromkeys(IDS, 1.0)),
        {"parked_tasks_pkey"},
    ),
    "parked.send_again": (
        lambda fetch: parked.send_again(fetch, dict.fromkeys(REFS, "{}")),
        {"tasks_pkey"},
    ),
    "parked.give_up": (
        lambda fetch: parked.give_up(fetch, dict.fromkeys(REFS, "{}"), ["why"] * len(REFS)),
        {"tasks_pkey", "parked_tasks_pkey"},
    ),
    "broker_loss.find_lost": (
        lambda fetch: broker_loss.find_lost(
            fetch, WorkQueue("emails", Priority.HIGH), after=UUID(int=0), before=NOON, limit=1_000
        ),
        {"tasks_unfinished"},
    ),
    "broker_loss.postpone": (lambda fetch: broker_loss.postpone(fetch, IDS, before=NOON), {"tasks_pkey"}),
    "rescue.lock_lost": (lambda fetch: rescue.lock_lost(fetch, passing_over=[], limit=1_000), {"tasks_pkey"}),
    "rescue.lock_overdue": (
        lambda fetch: rescue.lock_overdue(fetch, grace_seconds=60, passing_over=[], limit=1_000),
        {"tasks_pkey"},
    ),
    "rescue.drop_empty_claims": (rescue.drop_empty_claims, {"tasks_pkey"}),
    "waiting.look": (
        lambda fetch: waiting.look(fetch, LAST_ID),
        {"tasks_pkey", "tasks_unfinished", "outbox_unpublished", "outbox_eager", "outbox_failed"},
    ),
    "worker_views.runs": (lambda fetch: worker_views.runs(fetch, "worker"), {"tasks_pkey"}),
    "queues.unfinished": (
        lambda fetch: queues.unfinished(fetch, "emails", most=10_000),
        {"tasks_unfinished", "tasks_scheduled"},
    ),
    "queues.fill": (lambda fetch: queues.fill(fetch, [("emails", 100), ("tasks", 100)]), {"tasks_unfinished"}),
    "queue_clearing.move": (
        lambda fetch: queue_clearing.move(fetch, "emails", to="tasks", limit=500),
        {"tasks_unfinished", "tasks_pkey"},
    ),
    "queue_clearing.find_cancellable": (
        lambda fetch: queue_clearing.find_cancellable(fetch, "emails", limit=500),
        {"tasks_unfinished", "tasks_scheduled"},
    ),
    "queue_clearing.are_on_their_way": (
        lambda fetch: queue_clearing.are_on_their_way(fetch, "emails"),
        {"outbox_unpublished", "outbox_eager"},
    ),
    "queue_clearing.matching": (
        lambda fetch: queue_clearing.matching(fetch, PURGE, limit=500),
        {"tasks_unfinished"},
    ),
    "queue_clearing.count_matching": (
        lambda fetch: queue_clearing.count_matching(
            fetch, "emails", priority="high", type=None, older_than_seconds=0, most=10_000
        ),
        {"tasks_unfinished"},
    ),
    "cancels.cancel_waiting": (
        lambda fetch: cancels.cancel_waiting(fetch, dict.fromkeys(IDS, "no")),
        {"tasks_pkey"},
    ),
    "retention.find, succeeded": (find_over(Kind.SUCCEEDED), {"tasks_pkey"}),
    "retention.find, unsuccessful": (find_over(Kind.UNSUCCESSFUL), {"tasks_unsuccessful"}),
    "retention.delete, succeeded": (
        lambda fetch: retention.delete(fetch, Kind.SUCCEEDED, IDS, retention_seconds=60),
        {"tasks_pkey", "attempts_pkey", "progress_pkey"},
    ),
    "results.delete_old": (lambda fetch: results.delete_old(fetch, since=None, limit=500), {"tasks_with_old_result"}),
    "results.delete_old, further": (
        lambda fetch: results.delete_old(fetch, since=NOON, limit=500),
        {"tasks_with_old_result"},
    ),
    "retention.delete, unsuccessful": (
        lambda fetch: retention.delete(fetch, Kind.UNSUCCESSFUL, IDS, retention_seconds=60),
        {"tasks_pkey", "attempts_pkey", "progress_pkey"},
    ),
}
KEPT: dict[str, tuple[Call, set[str]]] = {
    "unique_keys.find": (lambda fetch: unique_keys.find(fetch, KEYS), {"unique_keys_pkey", "tasks_pkey"}),
    "unique_keys.find_and_lock": (
        lambda fetch: unique_keys.find_and_lock(fetch, KEYS[:1]),
        {"unique_keys_pkey", "tasks_pkey"},
    ),
    "unique_keys.lock": (lambda fetch: unique_keys.lock(fetch, UNIQUE), {"unique_keys_pkey"}),
    "unique_keys.take": (lambda fetch: unique_keys.take(fetch, UNIQUE), {"unique_keys_pkey"}),
    "unique_keys.replace": (lambda fetch: unique_keys.replace(fetch, UNIQUE, now=NOON), {"tasks_pkey"}),
    "submit": (
        lambda fetch: submit.submit(
            fetch,
            [Submission([NewTask(id=IDS[0], type="a", payload="{}")], IdempotencyKey("k", b""))],
            Eager(["tasks.medium"], 2.0, published=[1, 2, 3]),
        ),
        {"idempotency_keys_pkey", "outbox_rows_pkey"},
    ),
    "submit, not plain": (
        lambda fetch: submit.submit(
            fetch,
            [Submission([NewTask(id=IDS[0], type="a", payload="{}", run_at=NOON)], IdempotencyKey("k", b""))],
        ),
        {"idempotency_keys_pkey", "outbox_rows_pkey"},
    ),
    "claims.claim": (
        lambda fetch: claims.claim(fetch, [TaskRef(task_id, 1) for task_id in IDS], worker="w", claim_id=IDS[0]),
        {"tasks_pkey"},
    ),
    "record_and_claim": (
        lambda fetch: record_and_claim.record_and_claim(
            fetch,
            OUTCOMES[:50],
            [TaskRef(task_id, 1) for task_id in IDS[50:]],
            closed=[IDS[0]],
            worker="w",
            claim_id=IDS[1],
        ),
        {"tasks_pkey"},
    ),
    "parked.park_unknown": (
        lambda fetch: parked.park_unknown(fetch, REFS, known=["a"], worker="w"),
        {"tasks_pkey", "parked_tasks_pkey"},
    ),
    "parked.take": (
        lambda fetch: parked.take(
            fetch,
            known=["type.1", "type.2"],
            room={WorkQueue("tasks", Priority.HIGH): 50},
            settled=REFS[:50],
            handed_back=REFS[50:],
        ),
        {"parked_tasks_by_type", "parked_tasks_pkey"},
    ),
    "cancels.find_marked": (
        lambda fetch: cancels.find_marked(fetch, [(task_id, 1, "worker") for task_id in IDS]),
        {"tasks_pkey"},
    ),
    "outcomes.record": (
        lambda fetch: record.record(fetch, OUTCOMES, closed=[IDS[0]]),
        {"tasks_pkey", "attempts_pkey"},
    ),
    "progress.write": (
        lambda fetch: progress.write(fetch, [Progress(task_id, 1, 0.5, "page 4 of 8") for task_id in IDS]),
        {"tasks_pkey", "progress_pkey"},
    ),
    "outbox.lock_batch": (
        lambda fetch: outbox.lock_batch(fetch, rows=500, tasks=500, cursors={"tasks.low": 0, "tasks.high": 10}),
        {"outbox_unpublished"},
    ),
    "outbox.first_waiting": (outbox.first_waiting, {"outbox_unpublished"}),
    "outbox.move_to_end": (
        lambda fetch: outbox.move_to_end(fetch, {"tasks.low": 1_000, "tasks.high": 10}, limit=5_000),
        {"outbox_unpublished", "outbox_rows_pkey"},
    ),
    "outbox.delete": (lambda fetch: outbox.delete(fetch, list(range(1, 501))), {"outbox_rows_pkey"}),
    "outbox.keep": (lambda fetch: outbox.keep(fetch, 1, [TaskRef(IDS[0], 1)]), {"outbox_rows_pkey"}),
    "eager_rows.delete": (lambda fetch: eager_rows.delete(fetch, list(range(1, 101))), {"outbox_rows_pkey"}),
    "eager_rows.hand_over": (lambda fetch: eager_rows.hand_over(fetch, list(range(1, 101))), {"outbox_rows_pkey"}),
    "eager_rows.adopt": (
        lambda fetch: eager_rows.adopt(fetch, lapsed_within_seconds=60, limit=1_000),
        {"outbox_eager", "outbox_rows_pkey"},
    ),
    "outbox.count_failures": (
        lambda fetch: outbox.count_failures(fetch, {1: "no", 2: "no"}, max_attempts=10),
        {"outbox_rows_pkey"},
    ),
}
"""Statements that are sent through a ``DatabaseConnection``."""

# What the functions run inside: each array of calls goes through one transaction.
SUBMIT = "SELECT aftercommit.submit_task('type.1', '{}'"
RETURNING_EXISTING = f"""{SUBMIT}, "unique" => '{{"key": "k"}}')"""
REPLACING = f"""{SUBMIT}, "unique" => '{{"key": "k", "on_conflict": "replace"}}')"""
REJECTING = f"""{SUBMIT}, "unique" => '{{"key": "k", "on_conflict": "reject"}}')"""
BRIEFLY = f"""{SUBMIT}, "unique" => '{{"key": "k", "for_seconds": 1e-6}}')"""
BATCH = """
    SELECT aftercommit.submit_tasks((SELECT jsonb_agg(jsonb_build_object(
        'type', 'type.1', 'unique', jsonb_build_object('key', n::text, 'on_conflict', 'replace')
    )) FROM generate_series(1, 100) AS n))
"""
CALLS: dict[str, tuple[list[str], set[str]]] = {
    "plain": ([f"{SUBMIT})"], set()),
    "an idempotency key, then again": (
        [f"{SUBMIT}, idempotency_key => 'k')"] * 2,
        {"idempotency_keys_pkey", "tasks_pkey"},
    ),
    "a unique key, then the task that holds it": ([RETURNING_EXISTING] * 2, {"unique_keys_pkey", "tasks_pkey"}),
    "a unique key, then another one in its place": ([REPLACING] * 2, {"unique_keys_pkey", "tasks_pkey"}),
    "a unique key, then a refusal": ([REJECTING] * 2, {"unique_keys_pkey", "tasks_pkey"}),
    "a unique key, then the next holder": ([BRIEFLY] * 2, {"unique_keys_pkey", "tasks_pkey"}),
    "a batch, then another one in its place": ([BATCH] * 2, {"unique_keys_pkey", "tasks_pkey"}),
}

AUTO_EXPLAIN = """
    LOAD 'auto_explain';
    SET auto_explain.log_min_duration = 0;
    SET auto_explain.log_nested_statements = on;
    SET auto_explain.log_format = json;
    SET auto_explain.log_level = notice
"""

PRIMARY_KEYS = {"tasks_pkey", "attempts_pkey", "outbox_rows_pkey", "idempotency_keys_pkey", "unique_keys_pkey"}
SMALL = {
    "broker_marker",
    "claims",
    "workers",
    "queue_statistics",
    "queues",
    "queue_grants",
    "rate_buckets",
    "shared_settings",
}


class Caught(Exception):
    """Carries a statement, as it would have been sent."""


@pytest.fixture(scope="module")
def filled(servers: Servers, template: str) -> Iterator[str]:
    """The name of a database with a day's work in it. Nothing writes to it."""

    async def run(*statements: str, database: str | None = None) -> None:
        admin = await connect_admin(servers, database)
        for statement in statements:
            await admin.execute(statement)
        await admin.close()

    asyncio.run(run(f"CREATE DATABASE {DATABASE} TEMPLATE {template}"))
    asyncio.run(run(FILL, "VACUUM ANALYZE", database=DATABASE))
    yield DATABASE
    asyncio.run(run(f"DROP DATABASE {DATABASE} WITH (FORCE)"))


@pytest.fixture
def plans_settings(servers: Servers, filled: str) -> Settings:
    found = servers.environment()
    return Settings(
        _env_file=None,
        postgres_host=found["POSTGRES_HOST"],
        postgres_port=int(found["POSTGRES_PORT"]),
        postgres_user=found["POSTGRES_USER"],
        postgres_password=found["POSTGRES_PASSWORD"],
        postgres_db=filled,
    )


async def sent_by(call: Call) -> tuple[str, tuple[Any, ...]]:
    """The statement that ``call`` sends, and its arguments; it is not executed."""

    async def catch(statement: str, /, *arguments: Any) -> list[Any]:
        raise Caught(statement, arguments)

    try:
        await call(catch)
    except Caught as caught:
        statement, arguments = caught.args
        return statement, arguments
    raise AssertionError("nothing was sent")


@asynccontextmanager
async def connected(settings: Settings, planning: Mapping[str, str]) -> AsyncIterator[asyncpg.Connection]:
    url = database_url(settings).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(session_settings(planning))
        yield connection
    finally:
        await connection.close()


async def explain(settings: Settings, call: Call) -> list[dict[str, Any]]:
    """The nodes of the plan of the statement that ``call`` sends, made for its arguments."""
    statement, arguments = await sent_by(call)
    async with connected(settings, FRESH_PLANS) as connection:
        return nodes(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *arguments))


async def explain_kept(settings: Settings, call: Call, *, first: str = "") -> list[dict[str, Any]]:
    """The same for the plan that a ``DatabaseConnection`` keeps. What ``first`` does is undone."""
    statement, arguments = await sent_by(call)
    async with connected(settings, KEPT_PLANS) as connection:
        await connection.execute(f"BEGIN; {first}")
        await connection.execute(f"PREPARE kept AS {statement}")
        nothing = f"({', '.join(['NULL'] * len(arguments))})" if arguments else ""
        return nodes(await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE kept {nothing}"))


async def explain_inside(
    settings: Settings, calls: list[str], *, plan_cache_mode: str, first: str = ""
) -> list[dict[str, Any]]:
    """The same for all statements that the functions run inside, as Postgres logs them, under a caller's own settings.
    A call that is refused is the last one. What ``first`` and the calls do is undone."""
    logged: list[str] = []
    async with connected(settings, {"plan_cache_mode": plan_cache_mode}) as connection:
        await connection.execute(f"BEGIN; INSERT INTO aftercommit.queues VALUES ('tasks', 0); {first}")
        await connection.execute(AUTO_EXPLAIN)
        connection.add_log_listener(lambda _, message: logged.append(str(message)))
        with suppress(asyncpg.PostgresError):
            for call in calls:
                await connection.execute(call)
        await connection.execute("ROLLBACK")
    plans = [json.loads(told[told.index("{") :]) for told in logged if "plan:" in told]
    return [node for plan in plans for node in nodes([plan])]


def nodes(answer: str | list[Any]) -> list[dict[str, Any]]:
    """All of a plan as Postgres tells it."""

    def walk(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield plan
        for inner in plan.get("Plans", []):
            yield from walk(inner)

    return list(walk((json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]))


def check(found: list[dict[str, Any]], indexes: set[str]) -> None:
    used = {node["Index Name"] for node in found if "Index Name" in node}
    used |= {index for node in found for index in node.get("Conflict Arbiter Indexes", [])}
    scanned = {node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"}
    assert scanned <= SMALL, found
    assert used >= indexes, used


@pytest.mark.parametrize("name", STATEMENTS)
async def test_statement_uses_its_index_when_the_tables_are_large(name: str, plans_settings: Settings) -> None:
    call, indexes = STATEMENTS[name]
    check(await explain(plans_settings, call), indexes)


@pytest.mark.parametrize("name", KEPT)
async def test_plan_that_is_kept_uses_its_index(name: str, plans_settings: Settings) -> None:
    call, indexes = KEPT[name]
    found = await explain_kept(plans_settings, call)
    check(found, indexes)
    assert all("Index Cond" in node for node in found if node.get("Index Name") in PRIMARY_KEYS), found


async def test_relay_reads_by_its_own_index_although_its_plan_is_of_an_empty_outbox(plans_settings: Settings) -> None:
    call, _ = KEPT["outbox.lock_batch"]
    found = await explain_kept(
        plans_settings, call, first="TRUNCATE aftercommit.outbox_rows; ANALYZE aftercommit.outbox_rows"
    )
    assert {node["Index Name"] for node in found if "Index Name" in node} == {"outbox_unpublished"}


@pytest.mark.parametrize("kind", Kind)
async def test_retention_reads_no_more_than_it_looks_at(kind: Kind, plans_settings: Settings) -> None:
    statement, arguments = await sent_by(find_over(kind))
    async with connected(plans_settings, FRESH_PLANS) as connection:
        found = nodes(await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *arguments))
    read = [node for node in found if node.get("Relation Name") == "tasks"]
    assert sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in read) <= task_pruner.BATCH
    assert sum(node["Actual Rows"] for node in read) > 0


async def test_rescuer_records_by_index_too(plans_settings: Settings) -> None:
    check(await explain(plans_settings, lambda fetch: record.record(fetch, OUTCOMES)), {"tasks_pkey"})


@pytest.mark.parametrize("plan_cache_mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("name", CALLS)
async def test_functions_for_callers_use_indexes_inside(
    name: str, plan_cache_mode: str, plans_settings: Settings
) -> None:
    calls, indexes = CALLS[name]
    found = await explain_inside(plans_settings, calls, plan_cache_mode=plan_cache_mode)
    check(found, indexes)
    assert {"tasks", "outbox_rows"} <= {node.get("Relation Name") for node in found if "Operation" in node}


@pytest.mark.parametrize("name", CALLS)
async def test_functions_for_callers_use_indexes_although_their_plans_are_of_empty_tables(
    name: str, plans_settings: Settings
) -> None:
    calls, indexes = CALLS[name]
    tables = "aftercommit.tasks, aftercommit.outbox_rows, aftercommit.unique_keys, aftercommit.idempotency_keys"
    first = f"TRUNCATE {tables}; ANALYZE {tables}"
    check(await explain_inside(plans_settings, calls, plan_cache_mode="force_generic_plan", first=first), indexes)
