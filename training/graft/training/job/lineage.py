"""Where a base or an adapter comes from: which data, which code."""

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from graft.adapters.digest import PREFIX, sha256_of_file

ORIGIN = "training.json"
"""In a base's folder: how it was trained."""
_FILE = "training/graft/training/job/lineage.py"
"""This file in a checkout."""


def data_digest(path: Path) -> str:
    """SHA-256 of the data file's bytes. Raises ``OSError``."""
    return PREFIX + sha256_of_file(path)


def code_version() -> str:
    """The distribution's version and, in a checkout of this project, the commit: ``0.1.0+g1a2b3c4``."""
    try:
        number = version("graftserve")
    except PackageNotFoundError:
        number = "0"
    here = Path(__file__)
    try:
        root = _git(here.parent, "rev-parse", "--show-toplevel")
        # An installed package may lie inside of a repository of its user's.
        if not (Path(root) / _FILE).samefile(here):
            return number
        return f"{number}+g{_git(here.parent, 'rev-parse', '--short', 'HEAD')}"
    except (OSError, subprocess.SubprocessError):
        return number


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
