"""tasks that wait for a worker that knows their type"""

import sqlalchemy as sa

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "parked_tasks",
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("dispatch", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("priority", sa.Text(), nullable=False),
        sa.Column("looks", sa.Integer(), server_default="1", nullable=False, comment="how often a worker got it"),
        sa.Column("looked", sa.ARRAY(sa.Text()), nullable=False, comment="the last workers that did"),
        sa.Column("since", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "free_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("'-infinity'"),
            nullable=False,
            comment="until then a worker has it",
        ),
        sa.Column("look_at", sa.TIMESTAMP(timezone=True), nullable=False, comment="when maintenance looks at it next"),
        sa.PrimaryKeyConstraint("task_id", name="parked_tasks_pkey"),
        comment="tasks that wait for a worker that knows their type",
        schema="aftercommit",
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index(
        "parked_tasks_by_type", "parked_tasks", ["queue", "priority", "type", "since"], schema="aftercommit"
    )
    op.create_index("parked_tasks_by_look", "parked_tasks", ["look_at"], schema="aftercommit")


def downgrade() -> None:
    # Their tasks wait as before, and the reconciler sends them again.
    op.drop_table("parked_tasks", schema="aftercommit")
