"""The first tables: jobs, their events and checkpoints, and the tenants' shares."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "jobs_0001"
down_revision = None
branch_labels = ("jobs",)
depends_on = ("adapters_0001", "files_0001")

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create every table."""
    _jobs()
    _told()
    queue = op.create_table(
        "job_queue",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("virtual_time", sa.Float, nullable=False),
    )
    op.bulk_insert(queue, [{"number": 1, "virtual_time": 0.0}])
    op.create_table(
        "job_shares",
        sa.Column("tenant", sa.String(63), sa.ForeignKey("tenants.name"), primary_key=True),
        sa.Column("finish", sa.Float, nullable=False),
    )


def downgrade() -> None:
    """Drop every table."""
    for name in ("job_shares", "job_queue", "job_checkpoints", "job_events", "jobs"):
        op.drop_table(name)


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("tenant", sa.String(63), sa.ForeignKey("tenants.name"), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("cost", sa.Float, nullable=False),
        sa.Column("is_charged", sa.Boolean, nullable=False),
        sa.Column("worker", sa.String(128), nullable=True),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
        sa.Column("num_reports", sa.BigInteger, nullable=False),
        sa.Column("num_losses", sa.Integer, nullable=False),
        sa.Column("num_events", sa.Integer, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("finish_time", _TIME, nullable=True),
        sa.Column("error", sa.JSON, nullable=True),
        sa.Column("result", sa.JSON, nullable=True),
        sa.Column("progress", sa.JSON, nullable=False),
        sa.Column("resolved", sa.JSON, nullable=False),
    )
    op.create_index("jobs_state", "jobs", ["state"])
    op.create_index("jobs_tenant", "jobs", ["tenant", "id"])


def _told() -> None:
    op.create_table(
        "job_events",
        sa.Column("job", sa.String(32), sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("level", sa.String(8), nullable=False),
        sa.Column("is_metrics", sa.Boolean, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("data", sa.JSON, nullable=True),
        sa.Column("state", sa.String(20), nullable=False),
    )
    op.create_table(
        "job_checkpoints",
        sa.Column("job", sa.String(32), sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("step", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("version_digest", sa.String(71), nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
    )
