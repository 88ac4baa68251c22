"""The files of a shard: written in one go with their digests, and compared with those later."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from graft.adapters.digest import PREFIX, digest_of_bytes
from graft.training.corpus.shards.header import ShardFile

_BLOCK_BYTES = 4096
"""Of each of the three places that a sample looks at."""


class ShardFileWriter:
    """A file of numbers that is appended to. What is not closed without an error has no record."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._path, self._dtype = path, dtype
        self._file = path.open("wb")
        self._hash, self._num_bytes = hashlib.sha256(), 0

    def append(self, numbers: NDArray[Any]) -> None:
        data = numbers.astype(self._dtype, casting="same_kind").tobytes()
        self._file.write(data)
        self._hash.update(data)
        self._num_bytes += len(data)

    def record(self) -> ShardFile:
        """Once all is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        digest = PREFIX + self._hash.hexdigest()
        return ShardFile(num_bytes=self._num_bytes, sha256=digest, sample=sample(self._path, self._num_bytes))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def sample(path: Path, num_bytes: int) -> str:
    """The digest of the first, the middle and the last bytes of a file of that size: what can be looked at in a corpus
    of any size, and tells one shard from another. Raises ``OSError``.
    """
    found = b""
    with path.open("rb") as file:
        for at in (0, num_bytes // 2, max(0, num_bytes - _BLOCK_BYTES)):
            file.seek(at)
            found += file.read(_BLOCK_BYTES)
    return digest_of_bytes(found)
