"""a schema of its own, and the field's names

Tables change their schema and columns their name; no row is copied. Processes of the release before must be stopped. Going back leaves the tables in the schema.
"""

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = ("tasks", "attempts", "outbox", "idempotency_keys", "workers", "claims", "work_queue_marks")


def upgrade() -> None:
    for table in TABLES:
        # A fresh database has them there already: the path that migrations run on begins with this schema.
        op.execute(
            f"DO $$ BEGIN IF to_regclass('aftercommit.{table}') IS NULL THEN "
            f"ALTER TABLE public.{table} SET SCHEMA aftercommit; END IF; END $$"
        )
    op.execute("ALTER TABLE aftercommit.tasks RENAME COLUMN rung TO enqueued")
    op.execute("ALTER TABLE aftercommit.work_queue_marks RENAME TO queue_statistics")
    op.execute("ALTER INDEX aftercommit.work_queue_marks_pkey RENAME TO queue_statistics_pkey")
    op.alter_column(
        "outbox", "body", schema="aftercommit", existing_type=sa.LargeBinary(), comment="set: sent as it is"
    )
    op.alter_column(
        "workers",
        "handlers",
        schema="aftercommit",
        existing_type=sa.JSON(),
        comment="type to its max_retries and timeout_seconds, as resolved",
    )
    unhandled = "of types without a handler there"
    for column in (
        sa.Column("max_retries", sa.Integer(), nullable=False, server_default="3", comment=unhandled),
        sa.Column("timeout_seconds", sa.Double(), nullable=False, server_default="300", comment=unhandled),
        sa.Column("lease_seconds", sa.Double(), nullable=False, server_default="10"),
        sa.Column("hand_back_seconds", sa.Double(), nullable=False, server_default="3"),
    ):
        op.add_column("workers", column, schema="aftercommit")
    op.create_index(
        "tasks_failed",
        "tasks",
        ["queue", "priority"],
        schema="aftercommit",
        postgresql_where=sa.text("finished_at IS NOT NULL AND error ->> 'type' NOT IN ('Cancelled', 'Expired')"),
    )


def downgrade() -> None:
    op.drop_index("tasks_failed", "tasks", schema="aftercommit")
    for name in ("hand_back_seconds", "lease_seconds", "timeout_seconds", "max_retries"):
        op.drop_column("workers", name, schema="aftercommit")
    op.alter_column(
        "workers",
        "handlers",
        schema="aftercommit",
        existing_type=sa.JSON(),
        comment="type to its own max_retries and timeout_seconds",
    )
    op.alter_column(
        "outbox",
        "body",
        schema="aftercommit",
        existing_type=sa.LargeBinary(),
        comment="set: sent as it is instead of a ring",
    )
    op.execute("ALTER INDEX aftercommit.queue_statistics_pkey RENAME TO work_queue_marks_pkey")
    op.execute("ALTER TABLE aftercommit.queue_statistics RENAME TO work_queue_marks")
    op.execute("ALTER TABLE aftercommit.tasks RENAME COLUMN enqueued TO rung")
