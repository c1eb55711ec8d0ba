"""how long the tasks of a work queue take"""

import sqlalchemy as sa

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

PASSED = "tasks sent out before have had their turn: a later one was claimed"
MARKED = "tasks sent out before passed_at have had their turn: a later one was claimed"


def upgrade() -> None:
    op.add_column(
        "work_queue_marks",
        sa.Column(
            "task_seconds",
            sa.Double(),
            nullable=True,
            comment="how long a task takes: the relay lets short ones share a message",
        ),
    )
    op.alter_column("work_queue_marks", "passed_at", comment=PASSED)
    op.drop_table_comment("work_queue_marks", existing_comment=MARKED)


def downgrade() -> None:
    op.create_table_comment("work_queue_marks", MARKED)
    op.alter_column("work_queue_marks", "passed_at", comment=None)
    op.drop_column("work_queue_marks", "task_seconds")
