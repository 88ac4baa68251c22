"""A finished folder of tokens, mapped into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graft.adapters.digest import PREFIX, sha256_of_file
from graft.training.corpus.lines import Sketch
from graft.training.corpus.shards.files import sample
from graft.training.corpus.shards.header import DTYPES, ENDS, FILE, LINES, TOKENS, WORD, Header, Shard
from graft.training.corpus.shards.stream import Part, TokenStream
from graft.training.errors import DataError

TOKENIZER = "tokenizer"
"""Folder in a folder of tokens."""
_THREADS = 16
"""That look at files at a time: on a share each look is a way to the server and back."""


def is_tokens(path: str) -> bool:
    """Whether a text that was named is a folder of tokens. What lies in it is read by ``TokenFolder.open``."""
    return Path(path).is_dir()


@dataclass(frozen=True, kw_only=True)
class TokenFolder:
    """Shards whose files are there, as long as when they were written, and alike where they are looked at."""

    path: Path
    header: Header

    @classmethod
    def open(cls, path: Path) -> TokenFolder:
        """Raises ``DataError`` where the folder is not what its header says. Reads 12 kB of each file, no more."""
        made = cls(path=path, header=Header.read(path))
        names = [(shard, kind) for shard in made.header.shards for kind in (TOKENS, ENDS, LINES)]
        with ThreadPoolExecutor(_THREADS) as threads:
            problems = [one for one in threads.map(lambda name: made._problem(*name), names) if one is not None]
        if problems:
            more = f" (and {len(problems) - 1} more files)" if len(problems) > 1 else ""
            raise DataError(f"{problems[0]}{more}. Make the folder again, or copy it again.")
        return made

    @property
    def tokenizer(self) -> Path:
        """The folder of the tokenizer that spelled the text."""
        return self.path / TOKENIZER

    def parts(self) -> list[Part]:
        dtype = DTYPES[self.header.dtype]
        return [
            Part(
                name=str(self._file(shard, TOKENS)),
                ids_N=_mapped(self._file(shard, TOKENS), dtype),
                ends_D=_mapped(self._file(shard, ENDS), WORD).view(np.int64),
                max_id=shard.max_id,
            )
            for shard in self.header.shards
        ]

    def sketches(self) -> list[Sketch]:
        """Of the text's lines."""
        return [
            Sketch(bound=shard.line_bound, hashes=_mapped(self._file(shard, LINES), WORD))
            for shard in self.header.shards
        ]

    def damaged(self) -> Iterator[str]:
        """What is wrong with each file whose bytes are not those that were written: reads them all."""
        for shard in self.header.shards:
            for kind, one in shard.files.items():
                if PREFIX + sha256_of_file(self._file(shard, kind)) != one.sha256:
                    yield f"{self._file(shard, kind)} is damaged: its bytes are not those that were written"

    def _file(self, shard: Shard, kind: str) -> Path:
        return self.path / f"{shard.name}.{kind}"

    def _problem(self, shard: Shard, kind: str) -> str | None:
        path, said = self._file(shard, kind), shard.files[kind]
        try:
            num_bytes = path.stat().st_size
            if num_bytes != said.num_bytes:
                return f"{path} has {num_bytes:,} bytes, and {self.path / FILE} says {said.num_bytes:,}"
            if sample(path, num_bytes) != said.sample:
                return f"{path} is not the file that {self.path / FILE} speaks of: its bytes are others"
        except OSError as error:
            return f"{path} cannot be read: {error.strerror or error}"
        return None


def stream_of(folders: Sequence[TokenFolder]) -> TokenStream:
    """All documents of several folders, in their order."""
    return TokenStream([part for folder in folders for part in folder.parts()])


def _mapped(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The file's numbers, which are read when they are asked for. A sketch may have none, which cannot be mapped."""
    if not path.stat().st_size:
        return np.empty(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r").view(np.ndarray)
