"""keep places in traces."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("job_failure", sa.Column("traceparent", sa.Text(), nullable=True))
    op.add_column("outbox", sa.Column("traceparent", sa.Text(), nullable=True))


def downgrade() -> None:
    raise RuntimeError(
        "migrations go forward only: restore a backup, or write the revision that undoes this one"
    )
