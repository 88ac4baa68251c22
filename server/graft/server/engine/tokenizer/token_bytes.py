"""The bytes that a token stands for, and how they are written where they alone are no text."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>\Z")
_MAX_CHARACTER_BYTES = 4
_SPACE = "▁"


class TokenBytes:
    """Bytes of each token of a Hugging Face tokenizer, read from its vocabulary by the rules of its decoder.

    Decoding a single token loses what it was: a part of a character becomes U+FFFD, whichever part it is.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._added = {int(token_id) for token_id in getattr(tokenizer, "added_tokens_decoder", ())}
        self._kinds = frozenset(_decoder_kinds(tokenizer))
        self._known: dict[int, bytes] = {}

    def __call__(self, token_id: int) -> bytes:
        found = self._known.get(token_id)
        if found is None:
            found = self._known[token_id] = self._read(token_id)
        return found

    def _read(self, token_id: int) -> bytes:
        token: str | None = self._tokenizer.convert_ids_to_tokens(token_id)
        if token is None:  # an id behind the tokenizer's, where the model's vocabulary is padded
            return b""
        if token_id in self._added:
            return token.encode()
        if "ByteFallback" in self._kinds and (match := _FALLBACK.match(token)):
            return bytes.fromhex(match[1])
        if "ByteLevel" in self._kinds:
            table = _byte_level()
            if all(letter in table for letter in token):
                return bytes(table[letter] for letter in token)
        if not self._kinds.isdisjoint({"Metaspace", "Replace", "ByteFallback", "ByteLevel", "Fuse"}):
            spaced = "ByteLevel" not in self._kinds and not self._kinds.isdisjoint({"Metaspace", "Replace"})
            return (token.replace(_SPACE, " ") if spaced else token).encode()
        return str(self._tokenizer.decode([token_id])).encode()


def unfinished(ids: Sequence[int], bytes_of: Callable[[int], bytes]) -> tuple[int, str]:
    """How many of the last tokens hold a character that they do not end, and what the first of them holds before it."""
    data = b"".join(map(bytes_of, ids[-_MAX_CHARACTER_BYTES:]))
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    num_open = len(decoder.getstate()[0])
    num_tokens, held = 0, b""
    while len(held) < num_open:
        num_tokens += 1
        held = bytes_of(ids[-num_tokens]) + held
    return num_tokens, held[: len(held) - num_open].decode(errors="replace")


def spelled(data: bytes) -> str:
    r"""The text of a token; bytes that alone are none as OpenAI writes them, `\xe2\x82`."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in data)


def _decoder_kinds(tokenizer: Any) -> Iterator[str]:
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    if decoder is None:
        return
    nodes = [json.loads(decoder.__getstate__())]
    while nodes:
        node = nodes.pop()
        yield node["type"]
        nodes += node.get("decoders", [])


@cache
def _byte_level() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes of Latin-1 stand for themselves, the others for the letters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}
