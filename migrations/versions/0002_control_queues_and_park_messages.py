"""control queues and park messages."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "parked_message",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=True),
        sa.Column("message_id", sa.Text(), nullable=True),
        sa.Column("content_type", sa.Text(), nullable=True),
        sa.Column(
            "headers",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("body_bytes", sa.BigInteger(), nullable=False),
        sa.Column(
            "parked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("closed_as", sa.Text(), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "closed_as IN ('requeued', 'dropped')", name=op.f("ck_parked_message_closed_as")
        ),
        sa.CheckConstraint(
            "(closed_as IS NULL) = (closed_at IS NULL)", name=op.f("ck_parked_message_closed")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_parked_message")),
        comment="Messages that are no job: kept as they came, until an operator has seen them",
    )
    op.create_index("ix_parked_message_closed_at", "parked_message", ["closed_at"], unique=False)
    op.create_index(
        "ix_parked_message_open",
        "parked_message",
        ["id"],
        unique=False,
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "queue",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("pause_reason", sa.Text(), nullable=True),
        sa.Column("priority", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("jobs_per_second", sa.Double(), nullable=True),
        sa.Column("next_job_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("most_waiting", sa.Integer(), nullable=True),
        sa.Column(
            "changed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("jobs_per_second > 0", name=op.f("ck_queue_rate")),
        sa.CheckConstraint("most_waiting > 0", name=op.f("ck_queue_most_waiting")),
        sa.CheckConstraint(
            "pause_reason IS NULL OR paused_at IS NOT NULL", name=op.f("ck_queue_pause")
        ),
        sa.CheckConstraint("priority BETWEEN -9 AND 9", name=op.f("ck_queue_priority")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_queue")),
        comment="What operators have set for a queue; one without a row runs as it comes",
    )
    op.create_table(
        "queue_gauge",
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("waiting", sa.Integer(), nullable=False),
        sa.Column("oldest_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_per_second", sa.Double(), nullable=False),
        sa.Column("messages", sa.Integer(), nullable=False),
        sa.Column(
            "measured_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("queue", name=op.f("pk_queue_gauge")),
    )


def downgrade() -> None:
    raise RuntimeError(
        "migrations go forward only: restore a backup, or write the revision that undoes this one"
    )
