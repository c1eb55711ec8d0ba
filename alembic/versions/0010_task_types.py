"""task types as workers declare them, and callers in SQL checked against them

The functions are in ``alembic/functions/0010``, one to a file.
"""

from pathlib import Path

import sqlalchemy as sa

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

NEW = ("payload_flaw", "check_types")
"""Each after those that it calls."""

REPLACED = "submit_given"
ENTRIES = ("submit_task", "submit_tasks")


def upgrade() -> None:
    op.create_table(
        "task_types",
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), comment="what the handler's docstring begins with"),
        sa.Column("schema", sa.JSON(), comment="of the payload; null: nothing is known of it"),
        sa.Column("options", sa.JSON(), nullable=False, comment="as its decorator has them"),
        sa.Column("declared_by", sa.Text(), nullable=False, comment="the worker that changed it last"),
        sa.Column("declared_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("type", name="task_types_pkey"),
        comment="what workers declared; the last one that started wins",
        schema="aftercommit",
    )
    op.add_column(
        "shared_settings",
        sa.Column("schema_check", sa.Text(), server_default="off", nullable=False, comment="SCHEMA_CHECK"),
        schema="aftercommit",
    )
    for name in NEW:
        _run(revision, name)
        op.execute(f"REVOKE EXECUTE ON FUNCTION aftercommit.{name} FROM PUBLIC")
    _run(revision, REPLACED)
    # The caller's session keeps plans, also one that was made while the tables were small.
    for name in ENTRIES:
        op.execute(f"ALTER FUNCTION aftercommit.{name} SET enable_seqscan = off SET jit = off")


def downgrade() -> None:
    for name in ENTRIES:
        op.execute(f"ALTER FUNCTION aftercommit.{name} RESET enable_seqscan RESET jit")
    op.execute(f"DROP FUNCTION aftercommit.{REPLACED}")
    _run("0009", REPLACED)
    op.execute(f"REVOKE EXECUTE ON FUNCTION aftercommit.{REPLACED} FROM PUBLIC")
    for name in reversed(NEW):
        op.execute(f"DROP FUNCTION aftercommit.{name}")
    op.drop_column("shared_settings", "schema_check", schema="aftercommit")
    op.drop_table("task_types", schema="aftercommit")


def _run(revision: str, name: str) -> None:
    # Not as SQLAlchemy's text, in which a colon may begin a parameter.
    path = Path(__file__).parents[1] / "functions" / revision / f"{name}.sql"
    op.get_bind().exec_driver_sql(path.read_text())
