"""queues as data: what each allows and how it is served, its limits, pauses, and how one is deleted; what workers tell

The functions are in ``alembic/functions/0011``, one to a file.
"""

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

NEW = "checked_by_queues"
REPLACED = ("checked_task", "submit_given")


def _time(name: str, **more: object) -> sa.Column[object]:
    return sa.Column(name, sa.TIMESTAMP(timezone=True), **more)  # type: ignore[arg-type]  # options of a column


COLUMNS = (
    sa.Column("description", sa.Text()),
    sa.Column("priorities", ARRAY(sa.Text()), comment="which it takes; null: all"),
    sa.Column("types", ARRAY(sa.Text()), comment="which it takes; null: all"),
    sa.Column("max_waiting", sa.Integer(), comment="a submit beyond it is refused"),
    sa.Column("max_payload_bytes", sa.Integer()),
    sa.Column("max_retries", sa.Integer(), comment="of tasks and handlers that say nothing"),
    sa.Column("retry", sa.JSON(), comment="delays of tasks and handlers that say nothing"),
    sa.Column("timeout_seconds", sa.Double(), comment="of tasks and handlers that say nothing"),
    sa.Column("ordering", sa.Text(), nullable=False, server_default="strict", comment="strict or weighted"),
    sa.Column("weights", ARRAY(sa.Integer()), comment="of high, medium and low, where weighted"),
    sa.Column("max_running", sa.Integer(), comment="over all workers"),
    sa.Column("rate_per_second", sa.Double(), comment="starts, over all workers"),
    sa.Column("burst", sa.Integer(), comment="how many may start at once after a rest"),
    _time("paused_at"),
    sa.Column("paused_by", sa.Text(), comment="who, or why"),
    _time("deleting_at", comment="set: it takes nothing, starts nothing, and maintenance empties it"),
    sa.Column("delete_mode", sa.Text(), comment="refuse, move or cancel: what becomes of unfinished tasks"),
    sa.Column("move_to", sa.Text()),
    _time("deleted_at", comment="set: there is no such queue, and QUEUES does not make it again"),
    sa.Column("left_in_broker", sa.Boolean(), nullable=False, server_default="false", comment="until they are deleted"),
    _time("created_at", nullable=False, server_default=sa.text("now()")),
    _time("updated_at", nullable=False, server_default=sa.text("now()")),
)

OF_WORKERS = (
    sa.Column("host", sa.Text(), comment="null: of the release before"),
    sa.Column("pid", sa.Integer()),
    sa.Column("version", sa.Text(), comment="of the package"),
    sa.Column("work_queues", ARRAY(sa.Text()), comment="what it serves, as patterns"),
    sa.Column("slots", sa.Integer()),
    sa.Column("slots_taken", sa.Integer(), comment="at the last renewal"),
    sa.Column("prefetch", sa.Integer()),
    _time("renewed_at"),
    _time("drain_requested_at", comment="set: it takes nothing more, finishes and ends"),
    _time("closed_at", comment="set: it has stopped in order"),
)


def upgrade() -> None:
    for column in COLUMNS:
        op.add_column("queues", column.copy(), schema="aftercommit")
    for column in OF_WORKERS:
        op.add_column("workers", column.copy(), schema="aftercommit")
    op.create_table_comment("queues", "every queue there is or was", schema="aftercommit")
    op.create_table(
        "queue_grants",
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("granted", sa.Integer(), nullable=False, comment="how many it may run: its alone until it says less"),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("in_use", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("queue", "worker", name="queue_grants_pkey"),
        comment="who may run how many of a queue with max_running",
        schema="aftercommit",
    )
    op.create_index("queue_grants_by_worker", "queue_grants", ["worker"], schema="aftercommit")
    op.create_table(
        "rate_buckets",
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Double(), nullable=False, comment="starts that nobody has taken yet"),
        _time("refilled_at", nullable=False),
        sa.PrimaryKeyConstraint("queue", name="rate_buckets_pkey"),
        comment="the token bucket of each queue with rate_per_second",
        schema="aftercommit",
    )
    op.create_table(
        "purges",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("priority", sa.Text()),
        sa.Column("type", sa.Text()),
        _time("created_before", nullable=False),
        sa.Column("after_priority", sa.Text(), nullable=False),
        sa.Column("after_id", sa.Uuid(), nullable=False, comment="up to here it is done"),
        sa.Column("cancelled", sa.Integer(), nullable=False, server_default="0"),
        _time("asked_at", nullable=False, server_default=sa.text("now()")),
        _time("ended_at"),
        sa.PrimaryKeyConstraint("id", name="purges_pkey"),
        comment="what was asked to be cancelled, and how far it is",
        schema="aftercommit",
    )
    _run(revision, NEW)
    op.execute(f"REVOKE EXECUTE ON FUNCTION aftercommit.{NEW} FROM PUBLIC")
    for name in REPLACED:
        _run(revision, name)


def downgrade() -> None:
    for name, of in (("submit_given", "0010"), ("checked_task", "0009")):
        op.execute(f"DROP FUNCTION aftercommit.{name}")
        _run(of, name)
        op.execute(f"REVOKE EXECUTE ON FUNCTION aftercommit.{name} FROM PUBLIC")
    op.execute(f"DROP FUNCTION aftercommit.{NEW}")
    for table in ("purges", "rate_buckets", "queue_grants"):
        op.drop_table(table, schema="aftercommit")
    op.create_table_comment("queues", "every queue that QUEUES ever named", schema="aftercommit")
    for column in reversed(OF_WORKERS):
        op.drop_column("workers", column.name, schema="aftercommit")
    for column in reversed(COLUMNS):
        op.drop_column("queues", column.name, schema="aftercommit")


def _run(revision: str, name: str) -> None:
    # Not as SQLAlchemy's text, in which a colon may begin a parameter.
    path = Path(__file__).parents[1] / "functions" / revision / f"{name}.sql"
    op.get_bind().exec_driver_sql(path.read_text())
