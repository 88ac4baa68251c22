"""Of a job's version it is decided once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "releases_0002"
down_revision = "releases_0001"
branch_labels = None
depends_on = None

_NAME = "rollouts_one_of_job"


def upgrade() -> None:
    """Add the constraint; of several rollouts of a job's version only the first stays the job's."""
    rollouts = sa.table("rollouts", *map(sa.column, ("id", "tenant", "job", "version_digest")))
    firsts = sa.select(sa.func.min(rollouts.c.id)).group_by(
        rollouts.c.tenant, rollouts.c.job, rollouts.c.version_digest
    )
    op.execute(sa.update(rollouts).where(rollouts.c.id.not_in(firsts)).values(job=None))
    with op.batch_alter_table("rollouts") as table:
        table.create_unique_constraint(_NAME, ["tenant", "job", "version_digest"])


def downgrade() -> None:
    """Drop it."""
    with op.batch_alter_table("rollouts") as table:
        table.drop_constraint(_NAME, type_="unique")
