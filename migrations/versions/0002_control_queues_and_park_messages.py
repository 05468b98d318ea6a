"""control queues and park messages."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

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
        sa.Column("form", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("copies", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column(
            "parked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column(
            "last_parked_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("closed_as", sa.Text(), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("form IN ('message', 'bytes')", name=op.f("ck_parked_message_form")),
        sa.CheckConstraint("octet_length(content) <= size", name=op.f("ck_parked_message_size")),
        sa.CheckConstraint("copies >= 1", name=op.f("ck_parked_message_copies")),
        sa.CheckConstraint(
            "closed_as IN ('requeued', 'dropped')", name=op.f("ck_parked_message_closed_as")
        ),
        sa.CheckConstraint(
            "(closed_as IS NULL) = (closed_at IS NULL)", name=op.f("ck_parked_message_closed")
        ),
        sa.CheckConstraint(
            "closed_at IS NULL OR content IS NULL", name=op.f("ck_parked_message_forgotten")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_parked_message")),
        comment="Messages that are no job: kept as they came, until an operator has seen them",
    )
    op.create_index("ix_parked_message_closed_at", "parked_message", ["closed_at"], unique=False)
    op.create_index(
        "uq_parked_message_open",
        "parked_message",
        ["digest"],
        unique=True,
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
        sa.CheckConstraint("jobs_per_second BETWEEN 0.001 AND 1000000", name=op.f("ck_queue_rate")),
        sa.CheckConstraint(
            "most_waiting BETWEEN 1 AND 10000000", name=op.f("ck_queue_most_waiting")
        ),
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
        sa.Column("due_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("jobs_per_second", sa.Double(), nullable=False),
        sa.Column("messages", sa.Integer(), nullable=True),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("good_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("queue", name=op.f("pk_queue_gauge")),
        comment="How much waits in each queue, as a relay measured it",
    )
    op.create_index("ix_job_created_at", "job", ["created_at"], unique=False)


def downgrade() -> None:
    raise RuntimeError(
        "migrations go forward only: restore a backup, or write the revision that undoes this one"
    )
