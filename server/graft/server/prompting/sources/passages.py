"""Documents are cut into passages, which are written so that none passes for another, or for ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from graft.server.prompting.program.program import Document
from graft.server.prompting.sources.words import cut, sentences, words
from graft.server.runtime.violations import shown

MAX_TITLE = 200

_UNSEEN = "\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff"
_GAP = rf"[\s{_UNSEEN}]*"
_SPACE = rf"[ \t{_UNSEEN}]*"
_MARKER = re.compile(rf"[\[\uff3b\u3010\u3014\u27e6]{_GAP}(\d[\d,;\u2013\s{_UNSEEN}-]*)[\]\uff3d\u3011\u3015\u27e7]")
_HEADING = re.compile(rf"^{_SPACE}(sources?|references?|citations?){_SPACE}:", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Passage:
    """Some sentences of a document, in one line, as they are shown. `title` is the document's, or its id."""

    document: str
    title: str
    text: str


def passages(document: Document, passage_words: int) -> Iterator[Passage]:
    """Whole sentences, up to so many words; a longer sentence is cut."""
    title = " ".join(neutral(document.title or document.id).split())[:MAX_TITLE]
    for text in _cut(neutral(document.text), passage_words):
        yield Passage(document=document.id, title=title, text=text)


def neutral(text: str) -> str:
    """Numbers in brackets are put into parentheses, headings of sources lose their colon."""
    return _HEADING.sub(r"\1 -", _MARKER.sub(r"(\1)", text))


def forged(document: Document) -> str | None:
    """A notice where a document holds what would pass for our markers; the first of them."""
    for text in (document.text, document.title or document.id):
        match = _MARKER.search(text) or _HEADING.search(text)
        if match is not None:
            written = shown(neutral(match.group()).strip())
            return f"document {shown(document.id)} holds {shown(match.group().strip())}, which is shown as {written}"
    return None


def _cut(text: str, passage_words: int) -> Iterator[str]:
    held: list[str] = []
    num_held = 0
    for begin, end in sentences(text):
        for part in cut(text[begin:end], passage_words):
            num_words = len(words(part))
            if held and num_held + num_words > passage_words:
                yield " ".join(held)
                held, num_held = [], 0
            held.append(" ".join(part.split()))
            num_held += num_words
    if held:
        yield " ".join(held)
