"""Content-addressed files: verified, atomic, collected (F5, F6)."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from graft.adapters.adapter import AdapterVersion
from graft.adapters.base.base import Base
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.errors import Conflict, StoreFull, StoreUnavailable
from graft.adapters.store import blobs as blob_files
from graft.adapters.store.local_blobs import LocalBlobs
from graft.adapters.store.store import BlobStore
from tests.adapters.making import make_adapter

Accept = Callable[..., AdapterVersion]
TENSORS = "adapter_model.safetensors"
NOW = timedelta(0)


@pytest.fixture
def version(accept: Accept, base: Base, tmp_path: Path) -> AdapterVersion:
    """A version whose files lie in the store."""
    return accept(make_adapter(tmp_path / "adapter", base=base))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, not slept."""
    slept: list[float] = []
    monkeypatch.setattr(blob_files.time, "sleep", slept.append)
    return slept


def _blob(tmp_path: Path, version: AdapterVersion, name: str = TENSORS) -> Path:
    sha256 = next(file.sha256 for file in version.files if file.name == name)
    return tmp_path / "store" / "blobs" / sha256[:2] / sha256


def test_the_folder_is_content_addressed_and_read_only(
    store: BlobStore, version: AdapterVersion, tmp_path: Path
) -> None:
    folder = store.materialize(version)
    assert folder == tmp_path / "local" / "versions" / version.digest.removeprefix("sha256:")
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", TENSORS, "graft.json"]
    assert all(path.stat().st_mode & 0o222 == 0 for path in folder.iterdir())
    assert store.materialize(version) == folder
    assert store.integrity(version) == ()


def test_a_damaged_folder_is_built_again_by_a_new_process(
    store: BlobStore, version: AdapterVersion, tmp_path: Path
) -> None:
    path = store.materialize(version) / TENSORS
    sound = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(sound[:-1] + b"\0")
    # The same process trusts the size; a new one hashes.
    fresh = BlobStore(str(tmp_path / "store"), local_dir=tmp_path / "local")
    assert (fresh.materialize(version) / TENSORS).read_bytes() == sound
    path.chmod(0o644)
    path.write_bytes(sound[:-1])
    assert (fresh.materialize(version) / TENSORS).read_bytes() == sound
    assert list((tmp_path / "local" / "tmp").iterdir()) == []


def test_missing_and_damaged_blobs_are_said_and_never_served(
    store: BlobStore, version: AdapterVersion, tmp_path: Path, no_pauses: list[float]
) -> None:
    blob = _blob(tmp_path, version)
    sound = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(sound[:-1] + b"\0")
    (reason,) = store.integrity(version)
    assert "is damaged" in reason.problem
    with pytest.raises(StoreUnavailable, match="that hash to") as damaged:
        store.materialize(version)
    assert len(no_pauses) == 4
    _names_the_version_alone(damaged.value, version, tmp_path)
    blob.unlink()
    (reason,) = store.integrity(version)
    assert "is missing" in reason.problem
    with pytest.raises(StoreUnavailable, match="is missing") as missing:
        store.materialize(version)
    assert not store.path_of(version).exists()
    _names_the_version_alone(missing.value, version, tmp_path)


def _names_the_version_alone(error: Exception, version: AdapterVersion, folder: Path) -> None:
    """What reaches callers elsewhere: names, and neither the server's paths nor digests."""
    assert f"{version.adapter}@{version.number}" in str(error)
    assert str(folder) not in str(error) and not re.search("[0-9a-f]{64}", str(error)), error


def test_storing_again_heals_a_damaged_blob(store: BlobStore, version: AdapterVersion, tmp_path: Path) -> None:
    blob = _blob(tmp_path, version)
    blob.chmod(0o644)
    blob.write_bytes(b"x" * blob.stat().st_size)
    store.put_files(tmp_path / "adapter", [TENSORS])
    assert store.integrity(version) == ()


def test_a_full_disk_while_materializing(
    store: BlobStore, version: AdapterVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        Path(args[1]).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(StoreFull, match="the server's disk is full") as error:
            store.materialize(version)
        assert str(tmp_path) not in str(error.value)
    assert not store.path_of(version).exists()
    assert list((tmp_path / "local" / "tmp").iterdir()) == []
    assert store.materialize(version).is_dir()


def test_many_threads_may_ask_at_once(version: AdapterVersion, tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "store"), local_dir=tmp_path / "other")
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(store.materialize(version))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert list((tmp_path / "other" / "tmp").iterdir()) == []


def test_collecting_keeps_what_lives_and_what_is_young(
    store: BlobStore, accept: Accept, catalog: Catalog, version: AdapterVersion, base: Base, tmp_path: Path
) -> None:
    other = accept(make_adapter(tmp_path / "b", base=base, seed=2))
    for each in (version, other):
        store.materialize(each)
    catalog.delete_version(tenant="default", adapter="joe", version="2")
    live = catalog.live_digests()
    assert store.collect(live).num_deleted == 0
    # The other's weights and its folder; configuration and graft.json are shared.
    assert store.collect(live, min_age=NOW).num_deleted == 2
    assert store.integrity(version) == ()
    assert not store.path_of(other).exists()
    assert store.path_of(version).exists()


def test_a_version_registered_again_saves_its_old_blobs(
    store: BlobStore, accept: Accept, catalog: Catalog, version: AdapterVersion, base: Base, tmp_path: Path
) -> None:
    catalog.delete_version(tenant="default", adapter="joe", version="1")
    dead_before = catalog.live_digests()
    blob = _blob(tmp_path, version)
    os.utime(blob, (0, 0))
    accept(tmp_path / "adapter")
    store.collect(dead_before)
    assert store.integrity(version) == ()


def make_old(tmp_path: Path) -> None:
    """As if nothing had been stored or used for an hour."""
    for pattern in ("store/blobs/??/*", "local/versions/*"):
        for path in tmp_path.glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                os.utime(path, (0, 0))


def test_collectors_of_two_replicas_take_nothing_that_is_being_registered(
    store: BlobStore, accept: Accept, catalog: Catalog, base: Base, tmp_path: Path
) -> None:
    """The blobs are old and dead until the moment they are registered again."""
    folder = make_adapter(tmp_path / "adapter", base=base)
    ended = threading.Event()
    failures: list[BaseException] = []

    def collecting() -> None:
        replica = BlobStore(str(tmp_path / "store"), local_dir=tmp_path / "local")
        try:
            while not ended.is_set():
                replica.collect(catalog.live_digests())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=collecting) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            version = accept(folder)
            assert store.integrity(version) == ()
            assert (store.materialize(version) / TENSORS).is_file()
            catalog.delete_version(tenant="default", adapter="joe", version=version.digest)
            make_old(tmp_path)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_a_young_blob_is_never_out_of_sight(
    store: BlobStore, version: AdapterVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = _blob(tmp_path, version)
    monkeypatch.setattr(Path, "rename", lambda *paths: pytest.fail(f"{paths} were renamed"))
    assert (
        LocalBlobs(tmp_path / "store").delete(blob.name, stored_before=datetime.now(UTC) - timedelta(hours=1)) is None
    )
    assert store.integrity(version) == ()


@pytest.mark.parametrize("has_hard_links", [True, False])
def test_a_blob_renewed_while_it_is_taken_away_comes_back(
    store: BlobStore, version: AdapterVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_hard_links: bool
) -> None:
    if not has_hard_links:

        def refused(*paths: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refused)
    blobs = LocalBlobs(tmp_path / "store")
    blob = _blob(tmp_path, version)
    rename = Path.rename

    def renewed_first(path: Path, target: Path) -> Path:
        os.utime(path)
        return rename(path, target)

    os.utime(blob, (0, 0))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", renewed_first)
        assert blobs.delete(blob.name, stored_before=datetime.now(UTC) - timedelta(hours=1)) is None
    assert store.integrity(version) == ()
    os.utime(blob, (0, 0))
    assert blobs.delete(blob.name, stored_before=datetime.now(UTC)) == next(
        file.size_bytes for file in version.files if file.sha256 == blob.name
    )
    assert not blob.exists() and not list((tmp_path / "store" / "tmp").iterdir())


def test_what_killed_processes_left_is_swept(store: BlobStore, tmp_path: Path) -> None:
    for folder in (tmp_path / "store" / "tmp", tmp_path / "local" / "tmp"):
        folder.mkdir(exist_ok=True)
        (folder / "half").write_bytes(b"half")
        os.utime(folder / "half", (0, 0))
    assert store.collect(set()).num_deleted == 0, "they came within the hour, however old their bytes are"
    assert store.collect(set(), min_age=-timedelta(hours=1)).num_deleted == 2
    assert not list(tmp_path.glob("*/tmp/*"))


@pytest.mark.parametrize("url", ["{folder}/shared", "memory://graft-shared"])
def test_in_a_store_of_two_catalogs_nothing_is_collected(url: str, tmp_path: Path) -> None:
    first = BlobStore(url.format(folder=tmp_path), local_dir=tmp_path / "a")
    first.enrol("1" * 64)
    first.enrol("1" * 64)
    assert first.collect(set()).num_deleted == 0
    BlobStore(url.format(folder=tmp_path), local_dir=tmp_path / "b").enrol("2" * 64)
    with pytest.raises(Conflict, match="2 catalogs keep files"):
        first.collect(set())


def test_a_blob_that_a_collector_elsewhere_took_is_stored_again(
    store: BlobStore, accept: Accept, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked at the age before, and deleted after the blob was stored anew: an object store cannot prevent that."""
    put = store.put_files

    def put_and_lose(*args: Any, **kwargs: Any) -> Any:
        files = put(*args, **kwargs)
        monkeypatch.setattr(store, "put_files", put)
        (tmp_path / "store" / "blobs" / files[1].sha256[:2] / files[1].sha256).unlink()
        return files

    monkeypatch.setattr(store, "put_files", put_and_lose)
    assert store.integrity(accept(make_adapter(tmp_path / "adapter", base=base))) == ()


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """An object store that fails or answers short three times of ten (F6)."""

    protocol = "flaky"
    cachable = False
    rng = random.Random(3)
    num_calls = 0
    always = False

    def _maybe_fail(self) -> None:
        type(self).num_calls += 1
        if self.always or self.rng.random() < 0.3:
            raise ConnectionError("reset by peer")

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        """Fail, or put."""
        self._maybe_fail()
        super().put_file(lpath, rpath, **kwargs)

    def get_file(self, rpath: str, lpath: str, **kwargs: Any) -> None:
        """Fail, or get; sometimes short."""
        self._maybe_fail()
        super().get_file(rpath, lpath, **kwargs)
        if self.rng.random() < 0.2:
            os.truncate(lpath, Path(lpath).stat().st_size // 2)


def test_an_unreliable_object_store_gives_clean_loads_or_clean_errors(
    version: AdapterVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = blob_files.RemoteBlobs(Flaky(), "/bucket")
    monkeypatch.setattr("graft.adapters.store.store.open_blob_files", lambda url, **options: remote)
    names = [file.name for file in version.files]
    outcomes = {"clean": 0, "error": 0}
    for trial in range(40):
        store = BlobStore("flaky://bucket", local_dir=tmp_path / f"local-{trial}")
        try:
            assert store.put_files(tmp_path / "adapter", names) == version.files
            folder = store.materialize(version)
        except StoreUnavailable:
            outcomes["error"] += 1
            assert not store.path_of(version).exists()
        else:
            outcomes["clean"] += 1
            assert (folder / TENSORS).read_bytes() == (tmp_path / "adapter" / TENSORS).read_bytes()
    assert outcomes["clean"] >= 30
    monkeypatch.setattr(Flaky, "always", True)
    Flaky.num_calls = 0
    with pytest.raises(StoreUnavailable, match="ConnectionError: reset by peer"):
        BlobStore("flaky://bucket", local_dir=tmp_path / "last").materialize(version)
    assert Flaky.num_calls == 5


def test_a_store_by_url(version: AdapterVersion, tmp_path: Path) -> None:
    store = BlobStore("memory://graft-test", local_dir=tmp_path / "remote")
    store.put_files(tmp_path / "adapter", [file.name for file in version.files])
    assert store.integrity(version) == ()
    assert (store.materialize(version) / TENSORS).is_file()
    assert store.collect({version.digest}, min_age=-timedelta(days=1)).num_deleted == 3
    assert len(store.integrity(version)) == 3


def test_an_unknown_protocol_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="install the package"):
        BlobStore("nosuch://bucket", local_dir=tmp_path)
