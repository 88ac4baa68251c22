"""A LoRA may bring a head of so many outputs; none that is there does."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "adapters_0005"
down_revision = "adapters_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, with none."""
    op.add_column("versions", sa.Column("num_labels", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("versions", "num_labels")
