"""Where a training may put things: nothing of anybody's is written over, and only one works in a folder at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from graft.adapters.base.file_names import is_base_file
from graft.training.errors import CheckpointError, ConfigurationError

_PARTS = frozenset(("generator",))
"""Folders inside a base's: the models beside it."""


def check_output(output: Path, *, work: Path, inputs: Iterable[Path]) -> None:
    """Raises ``ConfigurationError`` where a base cannot be written, or would take the place of something else."""
    if not output.name:
        raise ConfigurationError(f"--output {str(output)!r} is no folder's name: give one, such as my-base.")
    if output.exists() and not output.is_dir():
        raise ConfigurationError(f"--output {output} is a file: name a folder that is not there yet.")
    target = output.absolute()
    for path in (work, *inputs):
        if path.absolute().is_relative_to(target):
            raise ConfigurationError(f"--output {output} would take the place of {path}: choose another folder.")
    foreign = [] if not output.is_dir() else [one.name for one in output.iterdir() if not _belongs(one)]
    if foreign:
        raise ConfigurationError(
            f"--output {output} holds what is no base's ({', '.join(sorted(foreign)[:3])}): choose another folder."
        )
    parent = next(one for one in target.parents if one.exists())
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise ConfigurationError(f"--output {output} cannot be written: {parent}: {error.strerror}.") from None


def _belongs(path: Path) -> bool:
    return is_base_file(path.name) or (path.is_dir() and path.name in _PARTS)


@contextlib.contextmanager
def held(work: Path, *, flag: str = "--work") -> Iterator[None]:
    """This training's folder, which ``flag`` names, as long as it lasts; it ends with the process, however that ends.

    Raises ``CheckpointError`` where another training works there.
    """
    work.mkdir(parents=True, exist_ok=True)
    handle = os.open(work, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckpointError(f"another training works in {work}: wait for it, or choose another {flag}.") from None
        yield
    finally:
        os.close(handle)
