"""list what few jobs come to."""

from collections.abc import Sequence

from migrations import indexes

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    indexes.make(
        "ix_job_state",
        "job",
        ["state", "created_at"],
        where="state IN ('retry', 'rejected', 'dead', 'cancelled')",
    )
    indexes.make(
        "ix_job_error", "job", ["(error ->> 'type')", "created_at"], where="error IS NOT NULL"
    )
    indexes.make(
        "ix_order_line_state", "order_line", ["state", "sku"], where="state <> 'allocated'"
    )
    # The one before finds all that this one did.
    indexes.drop("ix_order_line_waiting", "order_line")
    indexes.make("ix_user_account_created_at", "user_account", ["created_at"])
    indexes.make(
        "ix_user_account_status",
        "user_account",
        ["status", "created_at"],
        where="status <> 'active'",
    )


def downgrade() -> None:
    raise RuntimeError(
        "migrations go forward only: restore a backup, or write the revision that undoes this one"
    )
