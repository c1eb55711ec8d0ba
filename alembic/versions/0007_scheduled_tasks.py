"""scheduled tasks stand in an index of their own

The release before runs on this schema too: its statements about unfinished tasks read more rows until it is gone.
"""

import sqlalchemy as sa

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _comment("0: scheduled, and never sent out yet")
    op.drop_index("tasks_unfinished", "tasks", schema="aftercommit")
    _index("tasks_unfinished", "finished_at IS NULL AND dispatch > 0")
    _index("tasks_scheduled", "finished_at IS NULL AND dispatch = 0")


def downgrade() -> None:
    op.drop_index("tasks_scheduled", "tasks", schema="aftercommit")
    op.drop_index("tasks_unfinished", "tasks", schema="aftercommit")
    _index("tasks_unfinished", "finished_at IS NULL")
    _comment(None)


def _index(name: str, predicate: str) -> None:
    columns = ["queue", "priority", "id"]
    op.create_index(name, "tasks", columns, schema="aftercommit", postgresql_where=sa.text(predicate))


def _comment(text: str | None) -> None:
    op.alter_column("tasks", "dispatch", existing_type=sa.Integer(), comment=text, schema="aftercommit")
