"""functions that submit tasks in the caller's own transaction, and what they must know of the settings

The functions are in ``alembic/functions/0009``, one to a file.
"""

from pathlib import Path

import sqlalchemy as sa

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

FUNCTIONS = (
    "refuse",
    "check_fields",
    "checked_number",
    "checked_choice",
    "checked_moment",
    "checked_retry",
    "checked_tags",
    "checked_payload",
    "ascii_json",
    "scalar_json",
    "unique_fields",
    "checked_unique",
    "new_task_id",
    "checked_task",
    "is_held",
    "due_at_most",
    "lock_unique_keys",
    "plan_unique",
    "insert_tasks",
    "replace_tasks",
    "replayed",
    "submit_given",
    "submit_task",
    "submit_tasks",
)
"""Each after those that it calls."""


def upgrade() -> None:
    op.create_table(
        "queues",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), comment="in QUEUES, the default first; null: it stands there no more"),
        sa.PrimaryKeyConstraint("name", name="queues_pkey"),
        comment="every queue that QUEUES ever named",
        schema="aftercommit",
    )
    op.create_table(
        "shared_settings",
        sa.Column("id", sa.Boolean(), server_default="true", nullable=False),
        sa.Column(
            "max_payload_bytes", sa.Integer(), server_default="262144", nullable=False, comment="API_MAX_PAYLOAD_BYTES"
        ),
        sa.PrimaryKeyConstraint("id", name="shared_settings_pkey"),
        comment="one row: what callers in SQL must know of the API's settings",
        schema="aftercommit",
    )
    op.execute("INSERT INTO aftercommit.shared_settings DEFAULT VALUES")
    connection = op.get_bind()
    folder = Path(__file__).parents[1] / "functions" / revision
    for name in FUNCTIONS:
        # Not as SQLAlchemy's text, in which a colon may begin a parameter.
        connection.exec_driver_sql((folder / f"{name}.sql").read_text())
        op.execute(f"REVOKE EXECUTE ON FUNCTION aftercommit.{name} FROM PUBLIC")


def downgrade() -> None:
    for name in reversed(FUNCTIONS):
        op.execute(f"DROP FUNCTION aftercommit.{name}")
    op.drop_table("shared_settings", schema="aftercommit")
    op.drop_table("queues", schema="aftercommit")
