"""Which tokens go on with the word before them, and after which ones a word cannot go on.

WordPiece marks what goes on (``##``). Other vocabularies mark blanks only (``Ġ``, ``▁``), which says nothing of a
line's first word, of punctuation or of scripts without blanks: there the characters decide. A word is a run of letters,
digits and marks; an ideograph or a kana is one by itself, as in BERT's tokenizer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from transformers.convert_slow_tokenizer import bytes_to_unicode

_BYTE_OF = {character: byte for byte, character in bytes_to_unicode().items()}
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_ALONE = ((0x2E80, 0x312F), (0x31A0, 0x9FFF), (0xF900, 0xFAFF), (0xFE30, 0xFE4F), (0x20000, 0x3FFFF))
"""Radicals, kana, ideographs."""


def word_parts(tokens: Sequence[str]) -> tuple[list[bool], list[bool]]:
    """Of each token of a vocabulary: whether it goes on with a word, and whether a word ends with it."""
    if any(token.startswith("##") for token in tokens):
        return [token.startswith("##") for token in tokens], [False] * len(tokens)
    is_bytes = any(token.startswith("Ġ") for token in tokens)
    pieces = [_bytes_of(token) if is_bytes else _plain(token) for token in tokens]
    if not any(b" " in piece for piece in pieces):  # blanks are no tokens: a text is cut at them, each token is a word
        return [False] * len(tokens), [True] * len(tokens)
    return [_goes_on(piece) for piece in pieces], [_ends(piece) for piece in pieces]


def _bytes_of(token: str) -> bytes:
    """A token of byte-level BPE."""
    if all(character in _BYTE_OF for character in token):
        return bytes(_BYTE_OF[character] for character in token)
    return token.encode("utf-8", "replace")


def _plain(token: str) -> bytes:
    """A token of SentencePiece, or of characters."""
    byte = _BYTE_TOKEN.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode("utf-8", "replace")


def _goes_on(piece: bytes) -> bool:
    if not piece:
        return False
    if 0x80 <= piece[0] < 0xC0:  # within a character
        return True
    if 0xC2 <= piece[0] < 0xE0 and len(piece) == 1:  # begins a letter of two bytes: Latin, Greek, Cyrillic, Arabic …
        return True
    text = piece.decode("utf-8", "ignore")
    return bool(text) and _is_of_word(text[0])


def _ends(piece: bytes) -> bool:
    """False for what ends within a character, too."""
    text = piece.decode("utf-8", "replace")
    return not text or (text[-1] != "\ufffd" and not _is_of_word(text[-1]))


def _is_of_word(character: str) -> bool:
    if any(first <= ord(character) <= last for first, last in _ALONE):
        return False
    return character.isalnum() or character == "_" or unicodedata.category(character).startswith("M")
