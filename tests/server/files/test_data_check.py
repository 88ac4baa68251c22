"""What `graft doctor --data-dir` says of uploaded files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.database import Database
from graft.adapters.store.store import BlobStore
from graft.server.files.catalog import FileCatalog
from graft.server.files.data_check import findings
from graft.server.files.draft import FileDraft
from graft.server.files.file import File, Purpose
from graft.server.files.tables import MIGRATIONS


@pytest.fixture
def file(tmp_path: Path) -> File:
    """The one file of a data folder as a server lays it out."""
    (tmp_path / "rows").write_bytes(b"rows")
    store = BlobStore(str(tmp_path / "data/blobs"), local_dir=tmp_path / "data/local")
    (blob,) = store.put_files(tmp_path, ["rows"])
    database = Database.open(f"sqlite:///{tmp_path}/data/catalog.db", migrations=[MIGRATIONS])
    draft = FileDraft(purpose=Purpose.FINE_TUNE, filename="rows.jsonl")
    kept = FileCatalog(database, max_bytes=100).add(draft, tenant="default", size_bytes=4, sha256=blob.sha256)
    database.close()
    return kept


def said(folder: Path) -> list[tuple[str, str]]:
    return [(one.subject, one.state) for one in findings(folder / "data")]


def blob_of(folder: Path, file: File) -> Path:
    return folder / "data/blobs/blobs" / file.sha256[:2] / file.sha256


def test_a_file_that_was_uploaded_is_needed(file: File, tmp_path: Path) -> None:
    os.utime(blob_of(tmp_path, file), (0, 0))
    assert said(tmp_path) == [("catalog", "ok"), ("files", "ok")], "it is none of what was deleted"


def test_one_that_is_damaged_or_missing_is_named(file: File, tmp_path: Path) -> None:
    blob = blob_of(tmp_path, file)
    blob.chmod(0o644)
    blob.write_bytes(b"wors")
    assert (file.id, "problem") in said(tmp_path)
    blob.unlink()
    assert (file.id, "problem") in said(tmp_path)


def test_a_database_of_before_has_none(tmp_path: Path) -> None:
    Catalog.open(f"sqlite:///{tmp_path}/data/catalog.db").close()
    assert said(tmp_path) == [("catalog", "ok")]
