"""what tasks can have beyond plain ones: deadlines, cancels, own retries, unique keys, progress, schedules

The release before runs on this schema too, but its workers know nothing of cancels, deadlines and own retries.
"""

import sqlalchemy as sa

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

NOW = sa.text("now()")


def _time(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.TIMESTAMP(timezone=True), **options)


def upgrade() -> None:
    _add_to_tasks()
    op.add_column(
        "attempts",
        sa.Column("payload", sa.JSON(), comment="set: what it ran with, where an operator's retry replaced that"),
        schema="aftercommit",
    )
    op.create_table(
        "unique_keys",
        sa.Column("key", sa.LargeBinary(), nullable=False, comment="a hash of the scope and the key"),
        sa.Column("task_id", sa.Uuid(), nullable=False, comment="the holder, which may hold it no more"),
        sa.Column("held_while", sa.Text(), nullable=False, comment="waiting, unfinished or for_seconds"),
        _time("held_since", server_default=NOW, nullable=False),
        _time("held_until", comment="set with for_seconds"),
        sa.PrimaryKeyConstraint("key", name="unique_keys_pkey"),
        schema="aftercommit",
    )
    op.create_table(
        "progress",
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("fraction", sa.Double()),
        sa.Column("message", sa.Text()),
        _time("reported_at", server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("task_id", name="progress_pkey"),
        comment="what handlers tell of how far they are",
        schema="aftercommit",
    )
    _create_schedules()


def _add_to_tasks() -> None:
    for column in (
        sa.Column(
            "features", sa.SmallInteger(), server_default="0", nullable=False, comment="bits, see core/features.py"
        ),
        sa.Column(
            "retry",
            sa.JSON(),
            comment="the task's own delays before its retries; null: the handler's, or the settings'",
        ),
        sa.Column("schedule", sa.JSON(), comment="set: the schedule and the tick that made it"),
        sa.Column("uniqueness", sa.JSON(), comment="set: its unique key, and how long it holds it"),
        sa.Column("cancel_reason", sa.Text(), comment="why it is to be cancelled, or was"),
        sa.Column("result_ttl_seconds", sa.Double(), comment="set: its result is deleted so long after it succeeded"),
        _time("expires_at", comment="set: it is not started any more from then on, and what runs is cut"),
        _time("result_expires_at", comment="when its result is deleted, or was"),
    ):
        op.add_column("tasks", column, schema="aftercommit")
    for name, column, predicate in (
        ("tasks_expiring", "expires_at", "finished_at IS NULL AND expires_at IS NOT NULL"),
        ("tasks_with_old_result", "result_expires_at", "result_expires_at IS NOT NULL AND result IS NOT NULL"),
    ):
        op.create_index(name, "tasks", [column], schema="aftercommit", postgresql_where=sa.text(predicate))


def _create_schedules() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", sa.Uuid(), nullable=False, comment="whose account it is: a name may be used again"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text()),
        sa.Column("zone", sa.Text()),
        sa.Column("interval_seconds", sa.Double()),
        sa.Column("jitter_seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("task", sa.JSON(), nullable=False, comment="the template of its tasks"),
        sa.Column("catch_up", sa.Text(), nullable=False),
        sa.Column("catch_up_max", sa.Integer(), nullable=False),
        sa.Column(
            "catch_up_seconds", sa.Double(), nullable=False, comment="the window: ticks that are later are skipped"
        ),
        sa.Column("overlap", sa.Text(), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default="false", nullable=False),
        _time("paused_at", comment="when the last pause began, or an earlier one whose ticks are not decided"),
        _time("resumed_at", comment="when the last pause ended"),
        sa.Column("declared_in", sa.Text(), comment="set: the module whose handler declares it"),
        sa.Column("declared_by", sa.Text(), comment="the worker that declared it last"),
        sa.Column("latest_task_id", sa.Uuid(), comment="the last task that a tick of it made"),
        _time("next_tick", comment="the first that is not in the account; null: it fires no more"),
        _time("next_due_at", comment="the next tick with its jitter"),
        _time("look_at", comment="when maintenance has something to do; null: never"),
        _time("buffered_tick", comment="set: it starts when the latest task has ended"),
        sa.Column("buffered_folded", sa.Integer(), server_default="0", nullable=False),
        _time("created_at", server_default=NOW, nullable=False),
        _time("updated_at", server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name="schedules_pkey"),
        sa.UniqueConstraint("name", name="schedules_name_key"),
        schema="aftercommit",
    )
    op.create_index(
        "schedules_due", "schedules", ["look_at"], schema="aftercommit", postgresql_where=sa.text("NOT paused")
    )
    op.create_table(
        "schedule_runs",
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        _time("tick", nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="tick, trigger or backfill"),
        _time("first_tick", nullable=False, comment="the first of the ticks that it stands for"),
        _time("due_at", nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False, comment="created, buffered, skipped or refused"),
        sa.Column("reason", sa.Text()),
        sa.Column("task_id", sa.Uuid()),
        sa.Column(
            "folded", sa.Integer(), server_default="0", nullable=False, comment="earlier ticks that this one stands for"
        ),
        _time("decided_at", server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("schedule_id", "tick", "kind", name="schedule_runs_pkey"),
        comment="the account of ticks",
        schema="aftercommit",
    )
    op.create_index("schedule_runs_by_age", "schedule_runs", ["decided_at"], schema="aftercommit")


def downgrade() -> None:
    for table in ("schedule_runs", "schedules", "progress", "unique_keys"):
        op.drop_table(table, schema="aftercommit")
    op.drop_column("attempts", "payload", schema="aftercommit")
    for name in ("tasks_with_old_result", "tasks_expiring"):
        op.drop_index(name, "tasks", schema="aftercommit")
    for name in (
        "result_expires_at",
        "expires_at",
        "result_ttl_seconds",
        "uniqueness",
        "cancel_reason",
        "schedule",
        "retry",
        "features",
    ):
        op.drop_column("tasks", name, schema="aftercommit")
