"""Sentences and words, as passages are cut by and claims compared with."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bm25s.stopwords import STOPWORDS_EN

# Chinese and Japanese put no spaces: each of their characters is a word.
_IDEOGRAPHS = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^\W{_IDEOGRAPHS}]+")
# Behind ".", "!", "?" and what closes a quotation, before a space; at a blank line; before a list's next item. A run of
# stops is looked at once, from its beginning: the time stays linear in the text.
_END = re.compile(
    r"(?<![.!?\u2026])[.!?\u2026]++[\"'\u201d\u2019\u00bb)\]]*+(?=\s)|[\u3002\uff01\uff1f]++"
    r"|(?=\n[ \t]*(?:\n|(?:[-*\u2022]|\d{1,3}[.)])[ \t]))"
)
_ABBREVIATED = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|st|vs|etc|cf|fig|inc|ltd|jr|sr|al|approx|pp?|vol)|\b(?-i:[A-HJ-Z])|\.[a-z]"
    r"|(?:^|\n)[ \t]*\d{1,3})\.$",
    re.IGNORECASE,
)
_LONGEST_ABBREVIATION = 8
_COMMON = frozenset(STOPWORDS_EN)


def words(text: str) -> list[str]:
    """Its words in small letters, in their order."""
    return _WORD.findall(text.lower())


def cut(text: str, num_words: int) -> Iterator[str]:
    """The text in parts of so many words; the last may have fewer."""
    begin = 0
    for index, match in enumerate(_WORD.finditer(text)):
        if index and index % num_words == 0:
            yield text[begin : match.start()]
            begin = match.start()
    yield text[begin:]


def telling_words(text: str) -> frozenset[str]:
    """Its words without the commonest of English, by which nothing can be told."""
    return frozenset(words(text)) - _COMMON


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Where each sentence begins and ends, without the space around it; all that is not space is in one."""
    begin = 0
    for match in _END.finditer(text):
        end = match.end()
        if not _ABBREVIATED.search(text[max(begin, end - _LONGEST_ABBREVIATION) : end]):
            yield from _trimmed(text, begin, end)
            begin = end
    yield from _trimmed(text, begin, len(text))


def _trimmed(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    part = text[begin:end]
    stripped = part.strip()
    if stripped:
        begin += len(part) - len(part.lstrip())
        yield begin, begin + len(stripped)
