"""What `graft doctor --data-dir` says of a server's data."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from graft.adapters.accepting import accept_folder
from graft.adapters.adapter import AdapterVersion
from graft.adapters.base.base import Base
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.data_check import findings
from graft.adapters.form import ServingForm
from graft.adapters.store.store import BlobStore
from graft.cli.diagnosis.diagnosis import diagnose
from tests.adapters.making import LIMITS, make_adapter


@pytest.fixture
def version(base: Base, tmp_path: Path) -> AdapterVersion:
    """The one version of a data folder as a server lays it out."""
    catalog = Catalog.open(f"sqlite:///{tmp_path}/data/catalog.db")
    store = BlobStore(str(tmp_path / "data" / "blobs"), local_dir=tmp_path / "data" / "local")
    form = ServingForm.NF4
    accepted = accept_folder(
        make_adapter(tmp_path / "a", base=base),
        catalog=catalog,
        store=store,
        base=base,
        serving_form=form,
        limits=LIMITS,
        tenant="default",
        adapter="joe",
    )
    catalog.close()
    return accepted


def said(tmp_path: Path) -> list[tuple[str, str, str]]:
    return [(one.subject, one.state, one.found) for one in findings(tmp_path / "data")]


def blob(tmp_path: Path, version: AdapterVersion, name: str) -> Path:
    sha256 = next(file.sha256 for file in version.files if file.name == name)
    return tmp_path / "data" / "blobs" / "blobs" / sha256[:2] / sha256


def test_sound_data(version: AdapterVersion, tmp_path: Path) -> None:
    (catalog, files) = said(tmp_path)
    assert catalog[:2] == ("catalog", "ok") and catalog[2].endswith("holds 1 version")
    assert files[:2] == ("files", "ok") and str(version.size_bytes) in files[2]


def test_looking_makes_no_folder(version: AdapterVersion, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "data" / "local")
    before = sorted(tmp_path.rglob("*"))
    assert [state for _, state, _ in said(tmp_path)] == ["ok", "ok"]
    assert [path for path in sorted(tmp_path.rglob("*")) if not path.name.startswith("catalog.db-")] == before


def test_missing_damaged_and_dead_files_are_named(version: AdapterVersion, tmp_path: Path) -> None:
    blob(tmp_path, version, "graft.json").unlink()
    damaged = blob(tmp_path, version, "adapter_model.safetensors")
    damaged.chmod(0o644)
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    dead = damaged.parent / ("f" * 64)
    dead.write_bytes(b"dead")
    found = said(tmp_path)[1:]
    problems = {text.split(":")[0]: text for subject, state, text in found if (subject, state) == ("joe@1", "problem")}
    assert "is missing" in problems["graft.json"] and "is damaged" in problems["adapter_model.safetensors"]
    assert found[-1] == ("files", "notice", "1 file that nothing needs any more")


def test_a_damaged_catalog_is_a_problem(version: AdapterVersion, tmp_path: Path) -> None:
    file = tmp_path / "data" / "catalog.db"
    with file.open("r+b") as opened:
        opened.seek(4096)
        opened.write(os.urandom(8192))
    (only,) = said(tmp_path)
    assert only[:2] == ("catalog", "problem") and "damaged" in only[2]


def test_a_folder_without_data_is_a_notice(tmp_path: Path) -> None:
    assert [one[:2] for one in said(tmp_path)] == [("catalog", "notice")]
    assert not list(tmp_path.iterdir()), "looking makes nothing"


def test_the_doctor_asks_where_a_folder_is_given(version: AdapterVersion, tmp_path: Path) -> None:
    folder = str(tmp_path / "data")
    assert "catalog" in {one.subject for one in diagnose(data_dir=folder, ports=[], with_data=True)}
    assert "catalog" not in {one.subject for one in diagnose(data_dir=folder, ports=[])}
