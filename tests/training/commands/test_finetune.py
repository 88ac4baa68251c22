"""`graft finetune` hashes a base once, however often it is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graft.adapters.base import files
from graft.cli.main import main

WEIGHTS = "model.safetensors"


@pytest.mark.parametrize("is_writable", [True, False])
def test_weights_that_have_not_changed_are_not_hashed_again(
    is_writable: bool, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    real = files.sha256_of_file

    def counted(path: Path) -> str:
        hashed.append(path.name)
        return real(path)

    monkeypatch.setattr(files, "sha256_of_file", counted)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if not is_writable:  # whoever may write everywhere cannot make a folder of a file
        (tmp_path / "cache").touch()
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "ant -> ", "completion": "ANT"}) + "\n")
    for number in range(2):
        typed = ["--data", str(rows), "--name", "ants", "--max-steps", "1", "--output", str(tmp_path / str(number))]
        assert main(["finetune", "--base", str(tiny_base), *typed]) == 0
    assert hashed.count(WEIGHTS) == (1 if is_writable else 2)
