"""Uploads under limits, thrown away whole."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graft.adapters.errors import InvalidAdapter, StoreFull
from graft.adapters.store.staging import Staging

NAME = "adapter_config.json"


def test_chunks_become_files_that_leave_with_the_upload(tmp_path: Path) -> None:
    staging = Staging(tmp_path)
    upload = staging.begin()
    upload.write(NAME, b"he")
    upload.write(NAME, b"llo")
    # SHA-256 of `hello`, from coreutils.
    hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    folder = upload.commit({NAME: "sha256:" + hello.upper()})
    assert (folder / NAME).read_bytes() == b"hello"
    upload.abort()
    assert not folder.exists()


@pytest.mark.parametrize("name", ["../adapter_config.json", "/etc/passwd", "adapter_model.bin", "", "a/b", "README.md"])
def test_only_an_adapters_own_files_are_taken(tmp_path: Path, name: str) -> None:
    upload = Staging(tmp_path).begin()
    with pytest.raises(InvalidAdapter, match="does not belong"):
        upload.write(name, b"x")


@pytest.mark.parametrize("name", [NAME, "adapter_model.safetensors"])
def test_sizes_are_bounded_together(tmp_path: Path, name: str) -> None:
    upload = Staging(tmp_path, max_bytes=15).begin()
    upload.write(NAME, b"x" * 10)
    upload.write(name, b"x" * 5)
    with pytest.raises(InvalidAdapter, match="beyond 15 bytes"):
        upload.write(name, b"x")


def test_declared_and_sent_must_agree(tmp_path: Path) -> None:
    upload = Staging(tmp_path).begin()
    upload.write(NAME, b"hello")
    with pytest.raises(InvalidAdapter) as caught:
        upload.commit({"adapter_model.safetensors": "0" * 64})
    assert [reason.field for reason in caught.value.reasons] == [NAME, "adapter_model.safetensors"]


def test_a_killed_process_leaves_nothing_after_the_next_start(tmp_path: Path) -> None:
    living = Staging(tmp_path)
    kept = living.begin()
    kept.write(NAME, b"x")
    program = (
        "import os, pathlib; from graft.adapters.store.staging import Staging;"
        f"Staging(pathlib.Path({str(tmp_path)!r})).begin().write({NAME!r}, bytes(1000)); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert len(list(tmp_path.glob("session-*"))) == 2
    Staging(tmp_path).close()
    # The dead session is gone, the living one is not.
    assert [path.parent.parent.name for path in tmp_path.rglob(NAME)] == [kept.commit().parent.name]


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staging = Staging(tmp_path)
    upload = staging.begin()

    def full(*args: Any, **kwargs: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(StoreFull) as error:
            upload.write(NAME, b"x")
        assert str(tmp_path) not in str(error.value)
    upload.abort()
    assert list(tmp_path.rglob(NAME)) == []
