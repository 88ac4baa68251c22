"""SHA-256 digests of files and of canonical JSON."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from graft.adapters.errors import NotFound

Digest = Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]
PREFIX = "sha256:"
_CHUNK_BYTES = 1 << 20
_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{8,64})\Z")


def digest_of_bytes(data: bytes) -> str:
    """`sha256:<64 hex digits>` of `data`."""
    return PREFIX + hashlib.sha256(data).hexdigest()


def digest_of_json(value: object) -> str:
    """Digest of the canonical JSON of `value`: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return digest_of_bytes(text.encode())


def sha256_of_file(path: Path, *, on_chunk: Callable[[bytes], object] | None = None) -> str:
    """64 hex digits of the file's SHA-256, read as a stream; `on_chunk` sees each chunk. Raises OSError."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
            if on_chunk is not None:
                on_chunk(chunk)
    return hasher.hexdigest()


def digest_prefix(text: str) -> str | None:
    """The hex digits of a digest or of a prefix of 8 or more; None when `text` is neither."""
    match = _PREFIX.match(text)
    return match.group(1) if match else None


def unique_match(prefix: str, digests: set[str], *, what: str) -> str:
    """The one digest that begins with the hex digits `prefix`. Raises NotFound for none or several."""
    found = [digest for digest in digests if digest.removeprefix(PREFIX).startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFound(f"no {what} has a digest beginning with {prefix}")
    raise NotFound(f"{len(found)} digests of {what}s begin with {prefix}; give more digits")
