"""A file of text as its lines.

Lines end at ``\\n``, with or without ``\\r`` before it, and at nothing else: U+2028, U+0085 and their like may stand in
JSON strings (RFC 8259, §7) and in texts. The encoding is UTF-8. A byte-order mark at the beginning of a line, where an
editor or the joining of files leaves it, is no text (RFC 3629, §6). What is gzip-compressed is unpacked.
"""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from graft.adapters.text.problems import BadLine, UnreadableText, check_characters, parsed

MAX_UNPACKED_BYTES = 4 << 30
_GZIP = b"\x1f\x8b"
_OTHER_COMPRESSION = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
}
_OTHER_ENCODINGS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_MARK = "\ufeff"


def read_text(path: Path) -> str:
    """The whole text, its lines ended by ``\\n`` alone.

    Raises ``UnreadableText`` for a file that cannot be read, and with the number of every line that is no text.
    """
    return "\n".join(line for _, line in parsed(path, raw_lines(path), decoded))


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines, numbered from 1 as an editor does, without their ends; what follows the last end is no line if empty.

    Raises as ``read_text`` does.
    """
    found = parsed(path, raw_lines(path), decoded)
    return found if found[-1][1] else found[:-1]


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines before they are decoded. Raises ``UnreadableText``."""
    return enumerate(_content(path).split(b"\n"), start=1)


def decoded(line: bytes) -> str:
    """One line as text. Raises ``BadLine``."""
    try:
        text = line.removesuffix(b"\r").decode("utf-8").lstrip(_MARK)
    except UnicodeDecodeError as error:
        raise BadLine(f"byte {error.start + 1} is not UTF-8; save the file as UTF-8.") from None
    check_characters(text)
    return text


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes as a stream, unpacked however many they are. What is raised inside is taken for the file's.

    Raises ``UnreadableText`` as ``read_text`` does.
    """
    _check_file(path)
    is_packed = False
    try:
        with path.open("rb") as file:
            is_packed = file.peek(2).startswith(_GZIP)
            # Its stream has all that is called here.
            with gzip.open(file) if is_packed else contextlib.nullcontext(file) as stream:
                _check_head(path, stream.peek(64)[:64], is_packed=is_packed)
                yield cast(BinaryIO, stream)
    except (OSError, EOFError, zlib.error) as error:
        if is_packed:
            raise _damaged(path, error) from None
        raise _unreadable(path, error) from None


def _content(path: Path) -> bytes:
    """The bytes, unpacked."""
    _check_file(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    is_packed = data.startswith(_GZIP)
    if is_packed:
        data = _unpacked(path)
    _check_head(path, data[:64], is_packed=is_packed)
    return data


def _check_file(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise UnreadableText(f"{path} is no file; name the file itself.")


def _check_head(path: Path, head: bytes, *, is_packed: bool) -> None:
    """Raises ``UnreadableText`` for what begins like a compressed file, or a text in another encoding."""
    if is_packed and head.startswith(_GZIP):
        raise UnreadableText(f"{path} is compressed twice; unpack it once.")
    for magic, name in _OTHER_COMPRESSION.items():
        if head.startswith(magic) and not _is_text(head):
            raise UnreadableText(f"{path} is compressed with {name}; unpack it, or use gzip.")
    for magic, name in _OTHER_ENCODINGS.items():
        if head.startswith(magic):
            raise UnreadableText(f"{path}, line 1: the file is {name}, not UTF-8; save it as UTF-8.")


def _unreadable(path: Path, error: Exception) -> UnreadableText:
    return UnreadableText(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.")


def _damaged(path: Path, error: Exception) -> UnreadableText:
    return UnreadableText(f"{path} is damaged, it cannot be unpacked: {error}; make it again.")


def _is_text(head: bytes) -> bool:
    """A text may begin with the letters that bzip2 begins with."""
    return all(byte >= 0x20 or byte in b"\t\n\r" for byte in head) and head.isascii()


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            data = file.read(MAX_UNPACKED_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from None
    if len(data) > MAX_UNPACKED_BYTES:
        raise UnreadableText(f"{path} unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB; split it.")
    return data
