"""find what was published last."""

from collections.abc import Sequence

from migrations import indexes

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    indexes.make(
        "ix_outbox_published_at",
        "outbox",
        ["published_at"],
        using="brin",
        storage={"autosummarize": "on"},
    )


def downgrade() -> None:
    raise RuntimeError(
        "migrations go forward only: restore a backup, or write the revision that undoes this one"
    )
