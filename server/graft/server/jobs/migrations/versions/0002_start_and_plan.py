"""From what a training begins, and what a dry run has found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "jobs_0002"
down_revision = "jobs_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both columns."""
    with op.batch_alter_table("jobs") as table:
        table.add_column(sa.Column("start", sa.JSON, nullable=True))
        table.add_column(sa.Column("plan", sa.JSON, nullable=True))


def downgrade() -> None:
    """Drop both."""
    with op.batch_alter_table("jobs") as table:
        table.drop_column("plan")
        table.drop_column("start")
