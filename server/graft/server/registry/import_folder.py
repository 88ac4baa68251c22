"""A trainer's folder on the server's own disk: only an adapter's files are opened, none outside allowed roots."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from graft.adapters.errors import InvalidAdapter, Reason
from graft.adapters.folder.manifest import ADAPTER_FILES
from graft.server.errors import Forbidden

TOKENIZER_CONFIG = "tokenizer_config.json"
"""Beside the adapter, and only looked at: it may hold the chat template."""
IMPORTED_FILES = (*ADAPTER_FILES, TOKENIZER_CONFIG)
_CHUNK_BYTES = 1 << 20
# One that is larger is none.
_MAX_LOOKED_AT_BYTES = 4 << 20


class ImportFolder:
    """What a push of the folder would send. A link is followed where it ends in a regular file below a root."""

    def __init__(self, folder: Path, roots: Sequence[Path]) -> None:
        """`roots` are resolved. Raises `Forbidden` for a folder outside them."""
        self._folder, self._roots = folder.resolve(), tuple(roots)
        if not self._allowed(self._folder):
            allowed = ", ".join(map(str, self._roots)) or "none"
            raise Forbidden(
                f"{folder} is not below a folder that adapters may be imported from (now: {allowed}): start the server "
                "with --import-roots, or upload the adapter"
            )

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        """The files' names and bytes, one file after another. Raises InvalidAdapter with all reasons."""
        if not self._folder.is_dir():
            raise InvalidAdapter(
                "the folder is not a usable adapter",
                [Reason(field="folder", problem=f"{self._folder} is not a folder", remedy="name one that PEFT saved")],
            )
        reasons = [reason for name in ADAPTER_FILES if (reason := self._reason(name)) is not None]
        if reasons:
            raise InvalidAdapter("the folder is not a usable adapter", reasons)
        for name in IMPORTED_FILES:
            try:
                yield from self._chunks(name)
            except OSError as error:
                problem = f"cannot be read ({error.strerror or error})"
                reason = Reason(field=name, problem=problem, remedy="let the server's user read it and its folder")
                raise InvalidAdapter("the folder is not a usable adapter", [reason]) from error

    def _chunks(self, name: str) -> Iterator[tuple[str, bytes]]:
        file = self._open(name)
        if file is not None:
            with file:
                while data := file.read(_CHUNK_BYTES):
                    yield name, data

    def _allowed(self, path: Path) -> bool:
        return any(path.is_relative_to(root) for root in self._roots)

    def _reason(self, name: str) -> Reason | None:
        """Why a file that is there cannot be taken."""
        path = self._folder / name
        if not os.path.lexists(path):
            return None
        try:
            resolved = path.resolve(strict=True)
        except (OSError, RuntimeError):
            return Reason(field=name, problem="is a link that leads nowhere", remedy="copy the file itself")
        if not self._allowed(resolved):
            problem = "is a link that leaves the folders that adapters may be imported from"
            remedy = "copy the file itself, or start the server with that folder among --import-roots"
            return Reason(field=name, problem=problem, remedy=remedy)
        if not resolved.is_file():
            return Reason(field=name, problem="is no regular file", remedy="give a folder that PEFT saved")
        return None

    def _open(self, name: str) -> IO[bytes] | None:
        path = self._folder / name
        if not path.exists() or self._reason(name) is not None:
            return None
        # The links are resolved and checked: what is opened must not be one any more, nor wait for a writer.
        file = os.fdopen(os.open(path.resolve(), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
        status = os.fstat(file.fileno())
        too_large = name == TOKENIZER_CONFIG and status.st_size > _MAX_LOOKED_AT_BYTES
        if stat.S_ISREG(status.st_mode) and not too_large:
            return file
        file.close()
        return None
