"""What was asked wrongly is told before the engine's half minute: the flag, the value and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from graft.cli.main import main


def test_folders_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    ports = ["--grpc-port", "0", "--http-port", "0"]
    assert main(["serve", *ports, "--data-dir", str(tmp_path / "file")]) == 2
    told = capsys.readouterr().err
    assert f"--data-dir {tmp_path / 'file'} cannot be used: File exists; name a folder" in told
    assert main(["serve", *ports, "--data-dir", str(tmp_path / "data"), "--store-url", "nosuch://key:secret@b"]) == 2
    told = capsys.readouterr().err
    assert "--store-url nosuch://… cannot be used: Protocol not known: nosuch; give a folder" in told
    assert "secret" not in told
    ready = tmp_path / "nowhere" / "ready.json"
    assert main(["serve", *ports, "--data-dir", str(tmp_path / "data"), "--ready-file", str(ready)]) == 2
    assert f"--ready-file {ready} cannot be written: its folder does not exist" in capsys.readouterr().err
