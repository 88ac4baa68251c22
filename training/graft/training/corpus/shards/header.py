"""What a folder of tokens says of itself, in ``tokens.json``.

A folder holds shards. A shard ``NAME`` is three files of little-endian numbers without a header of their own: token ids
in ``NAME.tokens`` (uint16 or uint32), each document ended by the end token; in ``NAME.ends`` (uint64) where in it each
document is over; in ``NAME.lines`` (uint64) a sketch of its text's lines (``graft.training.corpus.lines``). The header
is written last, so that half of a folder is none, and holds its own digest.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from graft.adapters.digest import digest_of_json
from graft.training.errors import DataError

FILE = "tokens.json"
FORMAT, VERSION = "graft-tokens", 1
TOKENS, ENDS, LINES = "tokens", "ends", "lines"
"""Suffixes of a shard's files."""
DTYPES: Mapping[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
WORD = np.dtype("<u8")
"""Of ends and of lines."""


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """What a file's bytes were when it was written."""

    num_bytes: int
    sha256: str
    sample: str
    """The digest of a few of its bytes, which every start compares (``files.sample``)."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Three files, and what is in them."""

    name: str
    num_tokens: int
    """End tokens included."""
    num_documents: int
    max_id: int
    line_bound: int
    """Of ``Sketch``."""
    files: Mapping[str, ShardFile]
    """By their suffixes."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From JSON. Raises ``TypeError``, ``KeyError`` or ``AttributeError`` for anything else."""
        return cls(**{**values, "files": {kind: ShardFile(**one) for kind, one in values["files"].items()}})


@dataclass(frozen=True, kw_only=True)
class Header:
    """A folder of tokens."""

    dtype: str
    end_id: int
    """What each document ends in."""
    tokenizer: str
    """``tokenizer_digest`` of the tokenizer that the text was spelled by."""
    sources: tuple[tuple[str, str], ...]
    """The text's files: name and digest of each."""
    shards: tuple[Shard, ...]

    @property
    def num_tokens(self) -> int:
        return sum(shard.num_tokens for shard in self.shards)

    @property
    def num_documents(self) -> int:
        return sum(shard.num_documents for shard in self.shards)

    @property
    def max_id(self) -> int:
        return max(shard.max_id for shard in self.shards)

    @property
    def digest(self) -> str:
        """Of all data: shards stand here with the digests of their files. Names of files are no data."""
        return digest_of_json(self._values() | {"sources": [digest for _, digest in self.sources]})

    def text(self) -> str:
        """The file's content."""
        values = {"format": FORMAT, "version": VERSION, **self._values()}
        return json.dumps({**values, "digest": digest_of_json(values)}, indent=1) + "\n"

    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises ``DataError`` where the folder holds no tokens, or a header that cannot be believed."""
        path = folder / FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(
                f"{folder} holds no {FILE}: it is no folder of tokens, or one that was not finished. Make one with "
                "`graft corpus tokenize`, or name files of text."
            ) from None
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
        except ValueError:
            raise _damaged(path, "it is no JSON") from None
        return cls._of(path, values)

    @classmethod
    def _of(cls, path: Path, values: Any) -> Self:
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise _damaged(path, f"it is no header of {FORMAT}")
        if values.get("version") != VERSION:
            raise DataError(
                f"{path} is of version {values.get('version')!r} of the format, and this Graft reads {VERSION}: make "
                "the folder again with `graft corpus tokenize`."
            )
        said = values.pop("digest", None)
        if said != digest_of_json(values):
            raise _damaged(path, "its digest is that of another content")
        fields = {field.name for field in dataclasses.fields(cls)}
        try:
            shards = tuple(Shard.of(one) for one in values["shards"])
            sources = tuple((name, digest) for name, digest in values["sources"])
            found = {name: value for name, value in values.items() if name in fields}
            made = cls(**{**found, "shards": shards, "sources": sources})
            DTYPES[made.dtype]
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise _damaged(path, f"a value is missing or of another kind ({error})") from None
        if not made.num_documents:
            raise DataError(f"{path.parent} holds no documents: make it again from a text that has some.")
        return made


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path} is damaged: {reason}. Make the folder again, or copy it again.")
