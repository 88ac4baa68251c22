"""Rows of the catalog's tables as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from graft.adapters.adapter import Adapter, AdapterFile, AdapterVersion, Alias, BaseReference, Lineage, Provenance
from graft.adapters.digest import base_digest
from graft.adapters.form import ServingForm

Row = sa.RowMapping


@dataclass(frozen=True, kw_only=True)
class BaseRecord:
    """A registered base."""

    name: str
    digest: str
    weights_digest: str
    tokenizer_digest: str
    chat_template_digest: str | None
    config_digest: str | None
    path: Path
    create_time: datetime

    @property
    def digest_without_config(self) -> str:
        """The digest under which the base was known before its configuration counted."""
        return base_digest(self.weights_digest, self.tokenizer_digest, self.chat_template_digest)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One append-only statement about a version: a metric, a parity receipt."""

    version_digest: str
    kind: str
    body: Mapping[str, object]
    create_time: datetime


def base_record(row: Row) -> BaseRecord:
    """A row of `bases`."""
    return BaseRecord(**{**row, "path": Path(row["path"])})


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
        base=BaseReference(**row["base"]),
        form=ServingForm(row["form"]),
        rank=row["rank"],
        alpha=row["alpha"],
        target_modules=tuple(row["target_modules"]),
        files=files,
        size_bytes=sum(file.size_bytes for file in files),
        provenance=Provenance(row["provenance"]),
        lineage=Lineage(**row["lineage"]),
        create_time=row["create_time"],
    )


def version_row(value: AdapterVersion) -> dict[str, Any]:
    """The row of `versions` that holds a version."""
    row = asdict(value)
    del row["size_bytes"]
    row["target_modules"] = list(value.target_modules)
    row["files"] = [asdict(file) for file in value.files]
    return row | {"form": value.form.value, "provenance": value.provenance.value}
