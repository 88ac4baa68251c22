"""T20: what the disk refuses, whichever library passes it on."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from graft.training.errors import CheckpointError, NotWritten
from graft.training.job.export import put_in_place, write_base
from graft.training.runtime.disk import refusal, written

LARGE = {"x": torch.ones(10**5)}


@pytest.fixture
def small_files() -> Iterator[None]:
    """The limit on a file's size stands for the disk; Python ignores its signal."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize(
    "write",
    [
        lambda folder: save_file(LARGE, folder / "a.safetensors"),
        lambda folder: torch.save(LARGE, folder / "a.pt"),
        lambda folder: dcp.save(LARGE, checkpoint_id=folder, no_dist=True),
        lambda folder: (folder / "a.txt").write_text("x" * 10**6),
    ],
    ids=["safetensors", "torch", "distributed", "text"],
)
def test_every_library_says_it_alike_and_leaves_no_draft(write: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "before").touch()
    with pytest.raises(
        NotWritten, match=r"/out could not be written: .*; what was there .* with --resume\.$"
    ) as raised:
        put_in_place(tmp_path / "out", write)
    told = str(raised.value)
    assert "\n" not in told and ("File too large" in told or "part of a file" in told)
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and (tmp_path / "out" / "before").exists()


@pytest.mark.usefixtures("small_files")
def test_a_base_is_there_whole_or_not_at_all(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    with pytest.raises(NotWritten, match="base could not be written: File too large"):
        put_in_place(tmp_path / "base", lambda folder: write_base(model, tokenizer, folder, card="# base\n"))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "before").touch()
    rename = Path.rename

    def refused(path: Path, target: Path) -> Path:
        if path.name.startswith(".out") and ".old." not in path.name:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(NotWritten, match="Disk quota exceeded"):
        put_in_place(tmp_path / "out", lambda folder: (folder / "after").touch())
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "before"]


@pytest.mark.parametrize("number", [errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ENOTEMPTY])
def test_a_share_that_is_out_of_reach_is_told_as_a_full_disk_is(tmp_path: Path, number: int) -> None:
    told = pytest.raises(CheckpointError, match=f"{os.strerror(number)}; the checkpoints before")
    with told, written(tmp_path, kind=CheckpointError, what_stays="the checkpoints before it stay"):
        raise OSError(number, os.strerror(number))


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    for error in (
        ValueError("no"),
        FileNotFoundError(errno.ENOENT, "no such file"),
        CheckpointError("one"),
        KeyError(1),
    ):
        (draft := tmp_path / "draft").mkdir()
        with pytest.raises(type(error)), written(tmp_path / "out", draft=draft):
            raise error
        assert not draft.exists() and refusal(error) is None
