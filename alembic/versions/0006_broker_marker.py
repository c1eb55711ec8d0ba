"""whether the broker has lost what it held

The release before runs on this schema too: it knows nothing of the table.
"""

import sqlalchemy as sa

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "broker_marker",
        sa.Column("id", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("queue_type", sa.Text(), nullable=False, comment="what the queues were when the marker was planted"),
        sa.Column(
            "away_since",
            sa.TIMESTAMP(timezone=True),
            comment="when a maintenance process last found that the broker had gone away",
        ),
        sa.Column(
            "lost_before",
            sa.TIMESTAMP(timezone=True),
            nullable=False,
            comment="what was sent out before and waits must be sent again",
        ),
        sa.Column("resent_at", sa.TIMESTAMP(timezone=True), comment="when that was done; null: it is being done"),
        sa.PrimaryKeyConstraint("id", name="broker_marker_pkey"),
        schema="aftercommit",
    )


def downgrade() -> None:
    op.drop_table("broker_marker", schema="aftercommit")
