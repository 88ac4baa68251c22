"""The first tables: rollouts, and the answers that count for those under way."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "releases_0001"
down_revision = None
branch_labels = ("releases",)
depends_on = ("adapters_0001",)

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create both tables."""
    counts = [
        sa.Column(f"{side}_{what}", kind, nullable=False)
        for side in ("canary", "stable")
        for what, kind in (
            ("answers", sa.BigInteger),
            ("errors", sa.BigInteger),
            ("outcomes", sa.BigInteger),
            ("sum", sa.Float),
        )
    ]
    op.create_table(
        "rollouts",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant", sa.String(63), sa.ForeignKey("tenants.name"), nullable=False),
        sa.Column("adapter", sa.String(63), nullable=False),
        sa.Column("ended", sa.String(40), nullable=False),
        sa.Column("version_digest", sa.String(71), nullable=False),
        sa.Column("stable_digest", sa.String(71), nullable=True),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("canary", sa.JSON, nullable=True),
        sa.Column("report", sa.JSON, nullable=True),
        sa.Column("reasons", sa.JSON, nullable=False),
        sa.Column("job", sa.String(128), nullable=True),
        *counts,
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("end_time", _TIME, nullable=True),
        sa.UniqueConstraint("tenant", "adapter", "ended", name="rollouts_one_canary"),
    )
    op.create_index("rollouts_tenant", "rollouts", ["tenant", "id"])
    op.create_table(
        "rollout_answers",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("request", sa.String(128), primary_key=True),
        sa.Column("rollout", sa.String(40), sa.ForeignKey("rollouts.id"), nullable=False),
        sa.Column("by_canary", sa.Boolean, nullable=False),
        sa.Column("outcome", sa.Float, nullable=True),
    )
    op.create_index("rollout_answers_rollout", "rollout_answers", ["rollout"])


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("rollout_answers")
    op.drop_table("rollouts")
