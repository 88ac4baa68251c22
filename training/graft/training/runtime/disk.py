"""What the disk refuses, in one line, whichever library passes it on: it is full, a file is too large for it, it may
not be written to, or a share is out of reach.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path

from graft.training.errors import ConfigurationError, NotWritten, TrainingError

GO_ON = "go on with --resume"
AGAIN = "run the command again"
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_OUT_OF_REACH = (errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EBUSY, errno.ENOTEMPTY)
_FORBIDDEN = frozenset((errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENODEV, *_OUT_OF_REACH))
_RUST_ERROR = re.compile(r"\(os error (\d+)\)")
"""As safetensors and tokenizers end theirs."""
_TORCH_WRITER = ("inline_container", "PytorchStreamWriter")


@contextlib.contextmanager
def written(
    target: Path,
    *,
    draft: Path | None = None,
    remedy: str = GO_ON,
    kind: type[TrainingError] = NotWritten,
    what_stays: str = "what was there before stays",
) -> Iterator[None]:
    """What the disk refuses inside is raised as ``kind``; of the ``draft``, a file or a folder, nothing is left."""
    try:
        yield
    except BaseException as error:  # torch's is no Exception
        if draft is not None:
            remove(draft)
        if isinstance(error, TrainingError) or (said := refusal(error)) is None:
            raise
        first = "See to that" if said in map(os.strerror, _FORBIDDEN) else "Make room"
        raise kind(f"{target} could not be written: {said}; {what_stays}. {first}, and {remedy}.") from error


def unmakeable(path: Path, flag: str) -> str | None:
    """Why neither a file nor a folder can be made at ``path``, and the remedy; None where one can. Tried with a file
    that has no name, in what is there of the way to it.
    """
    place = path.absolute()
    try:
        while not place.exists():
            place = place.parent
        with tempfile.TemporaryFile(dir=place.parent if path.is_file() else place):
            return None
    except OSError as error:
        return f"{flag} {path} cannot be made: {error.strerror} in {place}; choose another."


def check_makeable(path: Path, flag: str) -> None:
    """Raises ``ConfigurationError`` in the words of ``unmakeable``."""
    if problem := unmakeable(path, flag):
        raise ConfigurationError(problem)


def refusal(error: BaseException) -> str | None:
    """The system's words for what it refused; None for an error that is not the disk's."""
    if (inner := cause(error)) is not error:
        return refusal(inner) or str(inner) or repr(inner)
    rust = _RUST_ERROR.search(str(error))
    number = int(rust[1]) if rust else error.errno if isinstance(error, OSError) else None
    if number in _FULL | _FORBIDDEN:
        return os.strerror(number)
    if any(name in str(error) for name in _TORCH_WRITER):
        before = error.__cause__ or error.__context__
        return (None if before is None else refusal(before)) or "only a part of a file was taken"
    return None


def cause(error: BaseException) -> BaseException:
    """torch wraps what went wrong in each process."""
    module = sys.modules.get("torch.distributed.checkpoint")  # where nobody has imported it, it has raised nothing
    if module is not None and isinstance(error, module.CheckpointException):
        inner: BaseException = next(iter(error.failures.values()))[0]
        return inner
    return error


def write_whole(file: RawIOBase, data: bytes) -> None:
    """A file without a buffer may take a part; the disk says why when it is asked for the rest."""
    view = memoryview(data)
    while view:
        taken = file.write(view)
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[taken:]


def replace_text(path: Path, text: str) -> None:
    """A file's new content: a reader sees the old one or all of the new one."""
    draft = _draft(path)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def put_text(path: Path, text: str) -> None:
    """What a command found, whole or not at all; a half of a character is written as ``?``. Raises ``NotWritten``.

    A pipe or a terminal, which nothing can take the place of, is written into.
    """
    text = text.encode(errors="replace").decode()
    if path.exists() and not path.is_file():
        with written(path, remedy=AGAIN):
            path.write_text(text, encoding="utf-8")
    else:
        with written(path, draft=_draft(path), remedy=AGAIN):
            replace_text(path, text)


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}")


def remove(path: Path) -> None:
    """A file or a folder that is no longer wanted, as far as that can be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
