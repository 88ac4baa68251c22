"""The tables of rollouts. Every row names its tenant, or a rollout that does."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from graft.adapters.catalog import tables as catalog
from graft.adapters.catalog.tables import UtcDateTime

MIGRATIONS = "graft.server.releases:migrations/versions"
"""An Alembic branch beside the catalog's, whose tenants it refers to."""
metadata = MetaData()

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(63), ForeignKey(catalog.tenants.c.name), nullable=False),
    Column("adapter", String(63), nullable=False),
    # What is under way has an empty text here, what has ended its own id: so one adapter has one canary.
    Column("ended", String(40), nullable=False),
    Column("version_digest", String(71), nullable=False),
    Column("stable_digest", String(71), nullable=True),
    Column("stage", String(16), nullable=False),
    Column("canary", JSON(none_as_null=True), nullable=True),
    Column("report", JSON(none_as_null=True), nullable=True),
    Column("reasons", JSON, nullable=False),
    Column("job", String(128), nullable=True),
    # Added up by every server that gives answers.
    Column("canary_answers", BigInteger, nullable=False),
    Column("canary_errors", BigInteger, nullable=False),
    Column("canary_outcomes", BigInteger, nullable=False),
    Column("canary_sum", Float, nullable=False),
    Column("stable_answers", BigInteger, nullable=False),
    Column("stable_errors", BigInteger, nullable=False),
    Column("stable_outcomes", BigInteger, nullable=False),
    Column("stable_sum", Float, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("end_time", UtcDateTime, nullable=True),
    UniqueConstraint("tenant", "adapter", "ended", name="rollouts_one_canary"),
    UniqueConstraint("tenant", "job", "version_digest", name="rollouts_one_of_job"),
    Index("rollouts_tenant", "tenant", "id"),
)

# While a rollout is under way, so that an outcome reported to any server finds its side, and counts once.
answers = Table(
    "rollout_answers",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("request", String(128), primary_key=True),
    Column("rollout", String(40), ForeignKey("rollouts.id"), nullable=False),
    Column("by_canary", Boolean, nullable=False),
    Column("outcome", Float, nullable=True),
    Index("rollout_answers_rollout", "rollout"),
)
