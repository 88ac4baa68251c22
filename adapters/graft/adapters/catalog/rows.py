"""Rows of the catalog's tables as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from graft.adapters.adapter import Adapter, AdapterFile, AdapterVersion, Alias, BaseIdentity, Lineage, Provenance
from graft.adapters.form import ServingForm

Row = sa.RowMapping


@dataclass(frozen=True, kw_only=True)
class BaseRecord:
    """A registered base."""

    identity: BaseIdentity
    path: Path
    create_time: datetime


@dataclass(frozen=True, kw_only=True)
class Record:
    """One append-only statement about a version: a metric, a parity receipt."""

    version_digest: str
    kind: str
    body: Mapping[str, object]
    create_time: datetime


def base_record(row: Row) -> BaseRecord:
    """A row of `bases`."""
    return BaseRecord(identity=_identity(dict(row)), path=Path(row["path"]), create_time=row["create_time"])


def adapter(row: Row) -> Adapter:
    """A row of `adapters`."""
    return Adapter(tenant=row["tenant"], name=row["name"], create_time=row["create_time"])


def alias(row: Row) -> Alias:
    """A row of `aliases`."""
    return Alias(**row)


def record(row: Row) -> Record:
    """A row of `records`."""
    return Record(**{key: row[key] for key in ("version_digest", "kind", "body", "create_time")})


def version(row: Row) -> AdapterVersion:
    """A row of `versions`."""
    files = tuple(AdapterFile(**file) for file in row["files"])
    return AdapterVersion(
        digest=row["digest"],
        adapter=row["adapter"],
        tenant=row["tenant"],
        number=row["number"],
        base=_identity(row["base"]),
        form=ServingForm(row["form"]),
        rank=row["rank"],
        alpha=row["alpha"],
        target_modules=tuple(row["target_modules"]),
        files=files,
        size_bytes=sum(file.size_bytes for file in files),
        provenance=Provenance(row["provenance"]),
        lineage=Lineage.of_record(row["lineage"]),
        create_time=row["create_time"],
        num_virtual_tokens=row["num_virtual_tokens"],
        num_labels=row["num_labels"],
    )


def version_row(value: AdapterVersion) -> dict[str, Any]:
    """The row of `versions` that holds a version."""
    row = asdict(value)
    del row["size_bytes"]
    origin = {"provenance": value.provenance.value, "lineage": value.lineage.record()}
    return row | {"form": value.form.value} | origin


def _identity(found: Mapping[str, Any]) -> BaseIdentity:
    # What was recorded before bases were known by their configuration does not have its digest.
    return BaseIdentity(**{one.name: found.get(one.name) for one in fields(BaseIdentity) if one.init})  # type: ignore[arg-type]
