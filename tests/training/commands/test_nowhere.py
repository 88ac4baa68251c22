"""Folders that nobody can make: said by the flag that names them, with the reason and the remedy, before any work."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from graft.cli.main import main
from graft.training.errors import ConfigurationError
from graft.training.job.folder import JobFolder
from graft.training.runtime.disk import unmakeable

NOWHERE = Path("/proc/nowhere")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc takes no folder on Linux")
@pytest.mark.parametrize(
    "command",
    [
        "finetune --data {rows} --name x --output",
        "finetune --task text-classification --data {rows} --name x --output",
        "align --data {rows} --name x --output",
        "prune {base} --sparsity 0.5 --method magnitude --output",
        "quantize {base} --form int8 --output",
        "distill --data {rows} --server 127.0.0.1:1 --output",
    ],
    ids=lambda command: command.partition(" --data")[0].partition(" {")[0],
)
def test_it_is_said_in_one_line(
    command: str, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    nowhere = f"{NOWHERE}.jsonl" if command.startswith("distill") else str(NOWHERE)
    assert main([*command.format(rows=rows, base=tiny_base).split(), nowhere]) == 2
    said = f"--output {nowhere} cannot be made: No such file or directory in /proc; choose another."
    assert capsys.readouterr().err.strip().splitlines()[-1].endswith(said)
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl"}


def test_the_folder_of_a_job_is_named_by_its_flag(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigurationError, match=f"--work {file}/inside cannot be made: Not a directory in {file}; "):
        JobFolder(path=file / "inside").check(resume=False)


def test_where_one_can_be_made_nothing_is_left(tmp_path: Path) -> None:
    assert unmakeable(tmp_path / "a" / "b", "--output") is None and unmakeable(tmp_path, "--output") is None
    assert list(tmp_path.iterdir()) == []
