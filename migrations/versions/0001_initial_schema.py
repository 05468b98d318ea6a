"""initial schema."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

RULES = (
    # The moves that a job may make. Only what breaks them costs a call: the rule stands in WHEN.
    """
    CREATE FUNCTION refuse_job_move() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'job % may not go from % to %, nor may its outcome change',
            OLD.id, OLD.state, NEW.state USING ERRCODE = 'check_violation';
    END $$
    """,
    """
    CREATE TRIGGER job_moves BEFORE UPDATE ON job FOR EACH ROW
    WHEN (
        (OLD.state IN ('succeeded', 'rejected', 'cancelled') AND NEW.state <> OLD.state)
        OR (OLD.state = 'dead' AND NEW.state NOT IN ('dead', 'queued'))
        OR (OLD.state IN ('succeeded', 'rejected', 'dead', 'cancelled')
            AND NEW.state = OLD.state
            AND NEW.scrubbed_at IS NOT DISTINCT FROM OLD.scrubbed_at
            AND (NEW.result, NEW.error, NEW.attempts)
                IS DISTINCT FROM (OLD.result, OLD.error, OLD.attempts))
    )
    EXECUTE FUNCTION refuse_job_move()
    """,
    # What has moved has moved: corrections are further movements.
    """
    CREATE FUNCTION refuse_rewrite() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'check_violation';
    END $$
    """,
    """
    CREATE TRIGGER stock_movement_append_only BEFORE UPDATE OR DELETE OR TRUNCATE
    ON stock_movement FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite()
    """,
)


def upgrade() -> None:
    op.create_table(
        "erased_identity",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column(
            "erased_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_erased_identity")),
        comment="SHA-256 of what an erased person was known by, so that imports do not bring them back",
    )
    op.create_table(
        "job",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("door", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("payload_hash", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'queued'"), nullable=False),
        sa.Column("run_after", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_attempts", sa.SmallInteger(), nullable=False),
        sa.Column("dispatches", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_dispatch", sa.DateTime(timezone=True), nullable=True),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("correlation_id", sa.Text(), nullable=True),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("scrubbed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'succeeded') = (result IS NOT NULL)", name=op.f("ck_job_result")
        ),
        sa.CheckConstraint(
            "(state IN ('queued', 'retry')) = (finished_at IS NULL)", name=op.f("ck_job_finished")
        ),
        sa.CheckConstraint(
            "(state IN ('queued', 'retry')) = (next_dispatch IS NOT NULL)", name=op.f("ck_job_due")
        ),
        sa.CheckConstraint("door IN ('celery', 'ledger')", name=op.f("ck_job_door")),
        sa.CheckConstraint(
            "state IN ('queued', 'retry', 'succeeded', 'rejected', 'dead', 'cancelled')",
            name=op.f("ck_job_state"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('rejected', 'dead') OR error IS NOT NULL", name=op.f("ck_job_error")
        ),
        sa.CheckConstraint("attempts BETWEEN 0 AND max_attempts", name=op.f("ck_job_attempts")),
        sa.CheckConstraint("char_length(id) BETWEEN 1 AND 255", name=op.f("ck_job_id_length")),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name=op.f("ck_job_priority")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
    )
    op.create_index(
        "ix_job_correlation_id",
        "job",
        ["correlation_id"],
        unique=False,
        postgresql_where=sa.text("correlation_id <> id"),
    )
    op.create_index(
        "ix_job_dead",
        "job",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("state = 'dead'"),
    )
    op.create_index(
        "ix_job_due",
        "job",
        ["queue", sa.literal_column("priority DESC"), "next_dispatch"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'retry')"),
    )
    op.create_index(
        "ix_job_email",
        "job",
        [sa.literal_column("lower(payload ->> 'email')")],
        unique=False,
        postgresql_where=sa.text("queue = 'users'"),
    )
    op.create_index("ix_job_finished_at", "job", ["finished_at"], unique=False)
    op.create_index(
        "ix_job_user_id",
        "job",
        [sa.literal_column("(payload ->> 'user_id')")],
        unique=False,
        postgresql_where=sa.text("queue = 'users'"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "event_id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False
        ),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("aggregate", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("correlation_id", sa.Text(), nullable=True),
        sa.Column(
            "occurred_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("event_id", name=op.f("uq_outbox_event_id")),
    )
    op.create_index("ix_outbox_published_at", "outbox", ["published_at"], unique=False)
    op.create_index(
        "ix_outbox_unpublished",
        "outbox",
        ["id"],
        unique=False,
        postgresql_where=sa.text("published_at IS NULL"),
    )
    op.create_table(
        "product",
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("sku", name=op.f("pk_product")),
    )
    op.create_table(
        "sales_order",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("may_split", sa.Boolean(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "policy IN ('all_or_nothing', 'partial', 'backorder')",
            name=op.f("ck_sales_order_policy"),
        ),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name=op.f("ck_sales_order_priority")),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_sales_order")),
        sa.UniqueConstraint("sequence", name=op.f("uq_sales_order_sequence")),
    )
    op.create_table(
        "user_account",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("username", sa.Text(), nullable=True),
        sa.Column("username_key", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("email_key", sa.Text(), nullable=True),
        sa.Column("email_verified", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "CASE WHEN status = 'erased' THEN num_nonnulls(username, username_key, email, email_key, name, password_hash, external_id) = 0 ELSE num_nulls(username, username_key, email, email_key, name) = 0 END",
            name=op.f("ck_user_account_erased"),
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'active', 'inactive', 'banned', 'erased')",
            name=op.f("ck_user_account_status"),
        ),
        sa.CheckConstraint("char_length(email) <= 254", name=op.f("ck_user_account_email_length")),
        sa.CheckConstraint(
            "char_length(username) <= 50", name=op.f("ck_user_account_username_length")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_account")),
        sa.UniqueConstraint("email_key", name=op.f("uq_user_account_email_key")),
        sa.UniqueConstraint("external_id", name=op.f("uq_user_account_external_id")),
        sa.UniqueConstraint("username_key", name=op.f("uq_user_account_username_key")),
    )
    op.create_table(
        "batch",
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("purchased", sa.Integer(), nullable=False),
        sa.Column("allocated", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("eta", sa.Date(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "allocated BETWEEN 0 AND purchased", name=op.f("ck_batch_allocated_within_purchased")
        ),
        sa.ForeignKeyConstraint(["sku"], ["product.sku"], name=op.f("fk_batch_sku")),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_batch")),
    )
    op.create_index(op.f("ix_batch_sku"), "batch", ["sku"], unique=False)
    op.create_table(
        "job_failure",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column(
            "failed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name=op.f("fk_job_failure_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_failure")),
    )
    op.create_index(op.f("ix_job_failure_job_id"), "job_failure", ["job_id"], unique=False)
    op.create_table(
        "order_line",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("line_id", sa.Text(), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "state IN ('allocated', 'partially_allocated', 'backordered', 'rejected', 'cancelled')",
            name=op.f("ck_order_line_state"),
        ),
        sa.CheckConstraint("quantity >= 1", name=op.f("ck_order_line_quantity")),
        sa.ForeignKeyConstraint(
            ["order_id"], ["sales_order.order_id"], name=op.f("fk_order_line_order_id")
        ),
        sa.ForeignKeyConstraint(["sku"], ["product.sku"], name=op.f("fk_order_line_sku")),
        sa.PrimaryKeyConstraint("order_id", "line_id", name=op.f("pk_order_line")),
    )
    op.create_index(
        "ix_order_line_waiting",
        "order_line",
        ["sku"],
        unique=False,
        postgresql_where=sa.text("state = 'backordered'"),
    )
    op.create_table(
        "allocation",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("line_id", sa.Text(), nullable=False),
        sa.Column("batch_reference", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("ranking", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column(
            "allocated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("quantity >= 1", name=op.f("ck_allocation_quantity")),
        sa.ForeignKeyConstraint(
            ["batch_reference"], ["batch.reference"], name=op.f("fk_allocation_batch_reference")
        ),
        sa.ForeignKeyConstraint(
            ["order_id", "line_id"],
            ["order_line.order_id", "order_line.line_id"],
            name=op.f("fk_allocation_order_id_line_id"),
        ),
        sa.PrimaryKeyConstraint(
            "order_id", "line_id", "batch_reference", name=op.f("pk_allocation")
        ),
    )
    op.create_index(
        op.f("ix_allocation_batch_reference"), "allocation", ["batch_reference"], unique=False
    )
    op.create_table(
        "stock_movement",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("batch_reference", sa.Text(), nullable=False),
        sa.Column("counter", sa.Text(), nullable=False),
        sa.Column("before", sa.Integer(), nullable=False),
        sa.Column("after", sa.Integer(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=True),
        sa.Column("line_id", sa.Text(), nullable=True),
        sa.Column(
            "occurred_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "counter IN ('purchased', 'allocated')", name=op.f("ck_stock_movement_counter")
        ),
        sa.CheckConstraint(
            "before >= 0 AND after >= 0 AND before <> after", name=op.f("ck_stock_movement_moves")
        ),
        sa.ForeignKeyConstraint(
            ["batch_reference"], ["batch.reference"], name=op.f("fk_stock_movement_batch_reference")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stock_movement")),
    )
    op.create_index(
        op.f("ix_stock_movement_batch_reference"),
        "stock_movement",
        ["batch_reference"],
        unique=False,
    )
    op.create_index(op.f("ix_stock_movement_job_id"), "stock_movement", ["job_id"], unique=False)
    for statement in RULES:
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError(
        "migrations go forward only: restore a backup, or write the revision that undoes this one"
    )
