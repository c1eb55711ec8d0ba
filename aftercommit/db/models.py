"""The tables. Migrations are compared with these in the test run.

Statuses and priorities are text, so that a newer release can add one without rewriting the table.
"""

from typing import Any, Final

from sqlalchemy import (
    JSON,
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    Computed,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

SCHEMA: Final = "aftercommit"
"""Fixed, and written out in every statement: so no ``search_path`` matters, and an application's own tables of the same
names may stand in the same database."""

metadata: Final = MetaData(
    schema=SCHEMA, naming_convention={"pk": "%(table_name)s_pkey", "ix": "%(column_0_label)s_idx"}
)

_NOW: Final = text("now()")

NOT_FAILED: Final = "('Cancelled', 'Expired')"
"""Types of errors that unsuccessful tasks have which did not fail. ``status`` itself may stand in no index."""


def _time(name: str, **options: Any) -> Column[Any]:
    return Column(name, TIMESTAMP(timezone=True), **options)


# `status` stands in no index and no index predicate: the claim's update then touches no index (a HOT update).
# `finished_at IS NULL` says the same of unfinished tasks, and `error` is what an unsuccessful end always has. Scheduled
# tasks, of which there may be a million, stand in an index of their own: nothing reads past them.
tasks: Final = Table(
    "tasks",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("type", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("dispatch", Integer, nullable=False, server_default="1", comment="0: scheduled, and never sent out yet"),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("uncharged", Integer, nullable=False, server_default="0", comment="attempts not held against max_retries"),
    Column("max_retries", Integer, comment="null: the handler's own, or MAX_RETRIES"),
    Column("timeout_seconds", Double, comment="null: the handler's own, or TASK_TIMEOUT_SECONDS"),
    Column("tags", ARRAY(Text), nullable=False, server_default="{}"),
    Column("payload", JSON, nullable=False),
    Column("result", JSON),
    Column("error", JSON),
    Column("worker", Text, comment="who runs it, or ran it last"),
    Column(
        "enqueued", Boolean, nullable=False, server_default="true", comment="false: the scheduler sends it at due_at"
    ),
    Column("features", SmallInteger, nullable=False, server_default="0", comment="bits, see core/features.py"),
    Column("retry", JSON, comment="the task's own delays before its retries; null: the handler's, or the settings'"),
    Column("schedule", JSON, comment="set: the schedule and the tick that made it"),
    Column("uniqueness", JSON, comment="set: its unique key, and how long it holds it"),
    Column("cancel_reason", Text, comment="why it is to be cancelled, or was"),
    Column("result_ttl_seconds", Double, comment="set: its result is deleted so long after it succeeded"),
    _time("created_at", nullable=False, server_default=_NOW),
    _time("queued_at", nullable=False, server_default=_NOW),
    _time("due_at"),
    _time("expires_at", comment="set: it is not started any more from then on, and what runs is cut"),
    _time("result_expires_at", comment="when its result is deleted, or was"),
    _time("first_started_at"),
    _time("started_at"),
    _time("finished_at"),
    Index("tasks_by_type", "type", "id"),
    Index("tasks_unfinished", "queue", "priority", "id", postgresql_where=text("finished_at IS NULL AND dispatch > 0")),
    Index("tasks_scheduled", "queue", "priority", "id", postgresql_where=text("finished_at IS NULL AND dispatch = 0")),
    Index(
        "tasks_unsuccessful",
        "id",
        postgresql_where=text("finished_at IS NOT NULL AND error IS NOT NULL"),
    ),
    Index(
        "tasks_failed",
        "queue",
        "priority",
        postgresql_where=text(f"finished_at IS NOT NULL AND error ->> 'type' NOT IN {NOT_FAILED}"),
    ),
    Index("tasks_due", "due_at", postgresql_where=text("NOT enqueued")),
    Index("tasks_expiring", "expires_at", postgresql_where=text("finished_at IS NULL AND expires_at IS NOT NULL")),
    Index(
        "tasks_with_old_result",
        "result_expires_at",
        postgresql_where=text("result_expires_at IS NOT NULL AND result IS NOT NULL"),
    ),
    Index("tasks_by_tag", "tags", postgresql_using="gin", postgresql_where=text("tags <> '{}'")),
    # Room on each page for the claimed versions of its rows.
    postgresql_with={"fillfactor": "70"},
)

attempts: Final = Table(
    "attempts",
    metadata,
    Column("task_id", Uuid, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("worker", Text),
    _time("started_at"),
    _time("finished_at", nullable=False, server_default=_NOW),
    Column("error", JSON),
    Column("payload", JSON, comment="set: what it ran with, where an operator's retry replaced that"),
    PrimaryKeyConstraint("task_id", "attempt"),
    comment="attempts that did not succeed; the current one stands in tasks",
)

# The release before writes and reads the view ``outbox``: these rows, as far as they are in its form.
outbox_rows: Final = Table(
    "outbox_rows",
    metadata,
    Column("id", BigInteger, Identity(always=False), primary_key=True),
    Column("work_queue", Text, nullable=False),
    Column("delay_seconds", Integer, comment="set: through the retry queue of this delay"),
    Column("task_id", Uuid, comment="of the release before"),
    Column("dispatch", Integer, comment="of the release before"),
    Column("dead_reason", Text, comment="set: a dead letter"),
    Column("body", LargeBinary, comment="set: sent as it is"),
    Column(
        "destination",
        Text,
        Computed(
            "CASE WHEN dead_reason IS NOT NULL THEN 'tasks.dlq'"
            " WHEN delay_seconds IS NOT NULL"
            " THEN 'tasks.retry.' || split_part(work_queue, '.', 2) || '.' || delay_seconds::text"
            " ELSE work_queue END",
            persisted=True,
        ),
        nullable=False,
        comment="the RabbitMQ queue it goes to first: the relay groups rows and backs off by it",
    ),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    _time("created_at", nullable=False, server_default=_NOW),
    _time("failed_at", comment="set: parked, FAILED"),
    Column("task_ids", ARRAY(Uuid), comment="null: a message that was not one of ours"),
    Column("dispatches", ARRAY(Integer), comment="one for each task"),
    _time("eager_until", comment="set: published by the process that committed it"),
    Index(
        "outbox_unpublished",
        "destination",
        "id",
        postgresql_where=text("failed_at IS NULL AND eager_until IS NULL"),
    ),
    Index("outbox_eager", "eager_until", postgresql_where=text("eager_until IS NOT NULL")),
    Index("outbox_failed", "id", postgresql_where=text("failed_at IS NOT NULL")),
)

idempotency_keys: Final = Table(
    "idempotency_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("request_hash", LargeBinary, nullable=False),
    Column("task_ids", ARRAY(Uuid), nullable=False),
    _time("created_at", nullable=False, server_default=_NOW),
    Index("idempotency_keys_by_age", "created_at"),
)

# Whether a task still holds its key stands in its own row: what ends a task never touches these.
unique_keys: Final = Table(
    "unique_keys",
    metadata,
    Column("key", LargeBinary, primary_key=True, comment="a hash of the scope and the key"),
    Column("task_id", Uuid, nullable=False, comment="the holder, which may hold it no more"),
    Column("held_while", Text, nullable=False, comment="waiting, unfinished or for_seconds"),
    _time("held_since", nullable=False, server_default=_NOW),
    _time("held_until", comment="set with for_seconds"),
)

progress: Final = Table(
    "progress",
    metadata,
    Column("task_id", Uuid, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("fraction", Double),
    Column("message", Text),
    _time("reported_at", nullable=False, server_default=_NOW),
    comment="what handlers tell of how far they are",
)

schedules: Final = Table(
    "schedules",
    metadata,
    Column("id", Uuid, primary_key=True, comment="whose account it is: a name may be used again"),
    Column("name", Text, nullable=False),
    Column("cron", Text),
    Column("zone", Text),
    Column("interval_seconds", Double),
    Column("jitter_seconds", Double, nullable=False, server_default="0"),
    Column("task", JSON, nullable=False, comment="the template of its tasks"),
    Column("catch_up", Text, nullable=False),
    Column("catch_up_max", Integer, nullable=False),
    Column("catch_up_seconds", Double, nullable=False, comment="the window: ticks that are later are skipped"),
    Column("overlap", Text, nullable=False),
    Column("paused", Boolean, nullable=False, server_default="false"),
    _time("paused_at", comment="when the last pause began, or an earlier one whose ticks are not decided"),
    _time("resumed_at", comment="when the last pause ended"),
    Column("declared_in", Text, comment="set: the module whose handler declares it"),
    Column("declared_by", Text, comment="the worker that declared it last"),
    Column("latest_task_id", Uuid, comment="the last task that a tick of it made"),
    _time("next_tick", comment="the first that is not in the account; null: it fires no more"),
    _time("next_due_at", comment="the next tick with its jitter"),
    _time("look_at", comment="when maintenance has something to do; null: never"),
    _time("buffered_tick", comment="set: it starts when the latest task has ended"),
    Column("buffered_folded", Integer, nullable=False, server_default="0"),
    _time("created_at", nullable=False, server_default=_NOW),
    _time("updated_at", nullable=False, server_default=_NOW),
    UniqueConstraint("name", name="schedules_name_key"),
    Index("schedules_due", "look_at", postgresql_where=text("NOT paused")),
)

# A schedule that is deleted leaves its runs to their retention: nobody finds them.
schedule_runs: Final = Table(
    "schedule_runs",
    metadata,
    Column("schedule_id", Uuid, nullable=False),
    _time("tick", nullable=False),
    Column("kind", Text, nullable=False, comment="tick, trigger or backfill"),
    _time("first_tick", nullable=False, comment="the first of the ticks that it stands for"),
    _time("due_at", nullable=False),
    Column("outcome", Text, nullable=False, comment="created, buffered, skipped or refused"),
    Column("reason", Text),
    Column("task_id", Uuid),
    Column("folded", Integer, nullable=False, server_default="0", comment="earlier ticks that this one stands for"),
    _time("decided_at", nullable=False, server_default=_NOW),
    PrimaryKeyConstraint("schedule_id", "tick", "kind"),
    Index("schedule_runs_by_age", "decided_at"),
    comment="the account of ticks",
)

queues: Final = Table(
    "queues",
    metadata,
    Column("name", Text, primary_key=True),
    Column("position", Integer, comment="in QUEUES, the default first; null: it stands there no more"),
    Column("description", Text),
    Column("priorities", ARRAY(Text), comment="which it takes; null: all"),
    Column("types", ARRAY(Text), comment="which it takes; null: all"),
    Column("max_waiting", Integer, comment="a submit beyond it is refused"),
    Column("max_payload_bytes", Integer),
    Column("max_retries", Integer, comment="of tasks and handlers that say nothing"),
    Column("retry", JSON, comment="delays of tasks and handlers that say nothing"),
    Column("timeout_seconds", Double, comment="of tasks and handlers that say nothing"),
    Column("ordering", Text, nullable=False, server_default="strict", comment="strict or weighted"),
    Column("weights", ARRAY(Integer), comment="of high, medium and low, where weighted"),
    Column("max_running", Integer, comment="over all workers"),
    Column("rate_per_second", Double, comment="starts, over all workers"),
    Column("burst", Integer, comment="how many may start at once after a rest"),
    _time("paused_at"),
    Column("paused_by", Text, comment="who, or why"),
    _time("deleting_at", comment="set: it takes nothing, starts nothing, and maintenance empties it"),
    Column("delete_mode", Text, comment="refuse, move or cancel: what becomes of unfinished tasks"),
    Column("move_to", Text),
    _time("deleted_at", comment="set: there is no such queue, and QUEUES does not make it again"),
    Column("left_in_broker", Boolean, nullable=False, server_default="false", comment="until they are deleted"),
    _time("created_at", nullable=False, server_default=_NOW),
    _time("updated_at", nullable=False, server_default=_NOW),
    comment="every queue there is or was",
)

# Nothing here expires by a timer: a grant counts until its worker says less, or is proved dead.
queue_grants: Final = Table(
    "queue_grants",
    metadata,
    Column("queue", Text, nullable=False),
    Column("worker", Text, nullable=False),
    Column("granted", Integer, nullable=False, comment="how many it may run: its alone until it says less"),
    Column("wanted", Integer, nullable=False),
    Column("in_use", Integer, nullable=False),
    PrimaryKeyConstraint("queue", "worker"),
    Index("queue_grants_by_worker", "worker"),
    comment="who may run how many of a queue with max_running",
)

rate_buckets: Final = Table(
    "rate_buckets",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("tokens", Double, nullable=False, comment="starts that nobody has taken yet"),
    _time("refilled_at", nullable=False),
    comment="the token bucket of each queue with rate_per_second",
)

purges: Final = Table(
    "purges",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("queue", Text, nullable=False),
    Column("priority", Text),
    Column("type", Text),
    _time("created_before", nullable=False),
    Column("after_priority", Text, nullable=False),
    Column("after_id", Uuid, nullable=False, comment="up to here it is done"),
    Column("cancelled", Integer, nullable=False, server_default="0"),
    _time("asked_at", nullable=False, server_default=_NOW),
    _time("ended_at"),
    comment="what was asked to be cancelled, and how far it is",
)

shared_settings: Final = Table(
    "shared_settings",
    metadata,
    Column("id", Boolean, primary_key=True, server_default="true"),
    Column("max_payload_bytes", Integer, nullable=False, server_default="262144", comment="API_MAX_PAYLOAD_BYTES"),
    Column("schema_check", Text, nullable=False, server_default="off", comment="SCHEMA_CHECK"),
    comment="one row: what callers in SQL must know of the API's settings",
)

task_types: Final = Table(
    "task_types",
    metadata,
    Column("type", Text, primary_key=True),
    Column("description", Text, comment="what the handler's docstring begins with"),
    Column("schema", JSON, comment="of the payload; null: nothing is known of it"),
    Column("options", JSON, nullable=False, comment="as its decorator has them"),
    Column("declared_by", Text, nullable=False, comment="the worker that changed it last"),
    _time("declared_at", nullable=False, server_default=_NOW),
    comment="what workers declared; the last one that started wins",
)

workers: Final = Table(
    "workers",
    metadata,
    Column("name", Text, primary_key=True, comment="one lease's; a process that lost its lease takes a new name"),
    Column("handlers", JSON, nullable=False, comment="type to its max_retries and timeout_seconds, as resolved"),
    Column("max_retries", Integer, nullable=False, server_default="3", comment="of types without a handler there"),
    Column("timeout_seconds", Double, nullable=False, server_default="300", comment="of types without a handler there"),
    Column("lease_seconds", Double, nullable=False, server_default="10"),
    Column("hand_back_seconds", Double, nullable=False, server_default="3"),
    _time("started_at", nullable=False, server_default=_NOW),
    _time("lease_until", nullable=False),
    Column("host", Text, comment="null: of the release before"),
    Column("pid", Integer),
    Column("version", Text, comment="of the package"),
    Column("work_queues", ARRAY(Text), comment="what it serves, as patterns"),
    Column("slots", Integer),
    Column("slots_taken", Integer, comment="at the last renewal"),
    Column("prefetch", Integer),
    _time("renewed_at"),
    _time("drain_requested_at", comment="set: it takes nothing more, finishes and ends"),
    _time("closed_at", comment="set: it has stopped in order"),
)

# What runs is found through these rows, one per claimed batch: an index on running tasks would cost every claim its
# HOT update.
claims: Final = Table(
    "claims",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("worker", Text, nullable=False),
    Column("task_ids", ARRAY(Uuid), nullable=False),
    _time("claimed_at", nullable=False, server_default=_NOW),
    Index("claims_by_worker", "worker"),
)

# What was in the broker and came to a worker that does not know its type. The task itself is as it was: it waits. Rows
# that nobody needs any more, since their task has gone on, are stale like a message.
parked_tasks: Final = Table(
    "parked_tasks",
    metadata,
    Column("task_id", Uuid, primary_key=True),
    Column("dispatch", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("looks", Integer, nullable=False, server_default="1", comment="how often a worker got it"),
    Column("looked", ARRAY(Text), nullable=False, comment="the last workers that did"),
    _time("since", nullable=False, server_default=_NOW),
    _time("free_at", nullable=False, server_default=text("'-infinity'"), comment="until then a worker has it"),
    _time("look_at", nullable=False, comment="when maintenance looks at it next"),
    Index("parked_tasks_by_type", "queue", "priority", "type", "since"),
    Index("parked_tasks_by_look", "look_at"),
    comment="tasks that wait for a worker that knows their type",
    # Room on each page for the versions of its rows that a take makes.
    postgresql_with={"fillfactor": "50"},
)

# One row, from the first start of maintenance on.
broker_marker: Final = Table(
    "broker_marker",
    metadata,
    Column("id", Boolean, primary_key=True, server_default="true"),
    Column("queue_type", Text, nullable=False, comment="what the queues were when the marker was planted"),
    _time("away_since", comment="when a maintenance process last found that the broker had gone away"),
    _time("lost_before", nullable=False, comment="what was sent out before and waits must be sent again"),
    _time("resent_at", comment="when that was done; null: it is being done"),
)

queue_statistics: Final = Table(
    "queue_statistics",
    metadata,
    Column("work_queue", Text, primary_key=True),
    _time("passed_at", nullable=False, comment="tasks sent out before have had their turn: a later one was claimed"),
    Column("task_seconds", Double, comment="how long a task takes: the relay lets short ones share a message"),
)
