"""Uploads before they are an adapter: streamed into a temporary folder, under limits, kept or thrown away whole."""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

from graft.adapters.errors import GraftError, InvalidAdapter, Reason
from graft.adapters.folder.manifest import ADAPTER_FILES, MAX_FILE_BYTES
from graft.adapters.store import disk
from graft.adapters.store.session_folder import SessionFolder


class Staging:
    """A folder for uploads; what a killed process left there is removed at the next start."""

    def __init__(
        self,
        root: Path,
        *,
        max_bytes: int = MAX_FILE_BYTES,
        names: Collection[str] = ADAPTER_FILES,
        refusal: type[GraftError] = InvalidAdapter,
    ) -> None:
        """`max_bytes` bounds an upload; only files called `names` are taken.

        What is wrong with an upload is raised as `refusal`. Raises OSError, or StoreFull.
        """
        self._max_bytes, self._names, self._refusal = max_bytes, frozenset(names), refusal
        self._folder = SessionFolder(root)

    def begin(self, *, names: Collection[str] | None = None) -> Upload:
        """A new, empty upload; of files called `names` where they are other ones. Raises StoreFull."""
        folder = self._folder.path / uuid.uuid4().hex
        with disk.full_disk_explained(folder):
            folder.mkdir()
        names = self._names if names is None else names
        return Upload(folder, max_bytes=self._max_bytes, names=names, refusal=self._refusal)

    def close(self) -> None:
        """Throw every open upload away."""
        self._folder.close()


class Upload:
    """One adapter or base being uploaded, until `abort`: what is registered is taken from its folder before."""

    def __init__(self, folder: Path, *, max_bytes: int, names: Collection[str], refusal: type[GraftError]) -> None:
        """Use `Staging.begin`."""
        self._folder, self._max_bytes, self._names, self._refusal = folder, max_bytes, names, refusal
        self._current: IO[bytes] | None = None  # files come one after another: one is open at a time
        self._current_name: str | None = None
        self._hashers: dict[str, Any] = {}
        self._num_bytes = 0

    def write(self, name: str, chunk: bytes) -> None:
        """Append `chunk` to the file `name`. Raises the refusal over a limit or for a foreign name; StoreFull."""
        if name not in self._names:
            problem = f"{name[:200]!r} does not belong to the upload"
            reason = Reason(field="file", problem=problem, remedy=f"send only {', '.join(sorted(self._names))}")
            raise self._refusal("the upload was refused", [reason])
        self._num_bytes += len(chunk)
        if self._num_bytes > self._max_bytes:
            problem = f"is beyond {self._max_bytes} bytes, the limit for all files together"
            raise self._refusal("the upload was refused", [Reason(field=name, problem=problem)])
        with disk.full_disk_explained(self._folder):
            if name != self._current_name:
                self._close()
                self._current = (self._folder / name).open("ab" if name in self._hashers else "xb")
                self._current_name = name
            assert self._current is not None
            self._current.write(chunk)
        self._hashers.setdefault(name, hashlib.sha256()).update(chunk)

    def commit(self, sha256: Mapping[str, str] | None = None) -> Path:
        """The folder of the complete upload; it stays until `abort`.

        `sha256` maps file names to the 64 hex digits (with or without `sha256:`) that the sender declared.
        Raises the refusal, naming every file whose bytes are others, or that is missing or undeclared; StoreFull.
        """
        with disk.full_disk_explained(self._folder):
            self._close()
        if sha256 is not None:
            reasons = self._hash_reasons(sha256)
            if reasons:
                raise self._refusal("the upload was damaged on its way", reasons)
        return self._folder

    @property
    def folder(self) -> Path:
        """Where the files lie; complete once it is committed."""
        return self._folder

    def sha256(self) -> dict[str, str]:
        """The hash of each file so far, as 64 hex digits by name."""
        return {name: hasher.hexdigest() for name, hasher in self._hashers.items()}

    def drop(self, name: str) -> None:
        """Leave a file out that was written."""
        if self._hashers.pop(name, None) is not None:
            if name == self._current_name:
                self._close()
                self._current_name = None
            disk.remove(self._folder / name)

    def abort(self) -> None:
        """Throw the upload away."""
        with contextlib.suppress(OSError):  # bytes that a full disk did not take are not wanted any more
            self._close()
        disk.remove(self._folder)

    def _close(self) -> None:
        file, self._current, self._current_name = self._current, None, None
        if file is not None:
            file.close()

    def _hash_reasons(self, declared: Mapping[str, str]) -> list[Reason]:
        reasons = []
        for name in sorted(declared.keys() | self._hashers.keys()):
            if name not in self._hashers:
                reasons.append(Reason(field=name, problem="was declared but not sent"))
                continue
            found = self._hashers[name].hexdigest()
            wanted = declared.get(name, "").removeprefix("sha256:").lower()
            if found != wanted:
                problem = f"its bytes hash to {found}, declared was {wanted or 'nothing'}"
                reasons.append(Reason(field=name, problem=problem, remedy="send it again"))
        return reasons
