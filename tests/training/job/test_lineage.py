"""Which code made it."""

import re
import subprocess
from pathlib import Path

import pytest

from graft.training.job import lineage


def test_a_checkout_names_its_commit(repository: Path) -> None:
    if not (repository / ".git").exists():
        pytest.skip("not a checkout")
    assert re.fullmatch(r"[\w.]+\+g[0-9a-f]{7,}", lineage.code_version())


def test_a_repository_around_an_installed_package_is_not_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "venv/lib/site-packages/graft/training/lineage.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "mine"], check=True)
    monkeypatch.setattr(lineage, "__file__", str(installed))
    assert "+g" not in lineage.code_version()
