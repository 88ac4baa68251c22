"""Citations in an answer, read and checked: what they name exists, and holds what is said and quoted."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from graft.server.errors import UnsupportedClaims
from graft.server.prompting.program.program import Sourcing
from graft.server.prompting.sources.passages import Passage
from graft.server.prompting.sources.words import sentences, telling_words
from graft.server.runtime.violations import shown

MAX_RANGE = 64
"""Numbers that `[1-9]` may stand for; of a wider one only its ends count."""
_MAX_NAMED = 8

_MARKER = re.compile(r"\[\s*(\d{1,6}(?:\s*(?:,|;|and|-|\u2013)\s*\d{1,6})*)\s*\]")
_LEADING = re.compile(r"(?:\s*\[[\d\s,;\u2013-]+\])+[.,;]?\s*")
_QUOTED = re.compile(r"\"([^\"\n]{2,2000})\"|\u201c([^\u201d\n]{2,2000})\u201d|\u00ab([^\u00bb\n]{2,2000})\u00bb")
_LIST = re.compile(r"^[ \t]*(?:sources?|references?|citations?)[ \t]*:?[ \t]*(?:\[|$)", re.IGNORECASE | re.MULTILINE)
_ABSTAINS = re.compile(
    r"(?:i|we) (?:do not|don't|cannot|can't) (?:know|say|tell|answer)|"
    r"(?:the|these|given) (?:sources?|passages?|documents?) (?:do|does) not|"
    r"none of the (?:sources?|passages?|documents?)",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Citation:
    """One number in one sentence. `document` and `passage` are None where no passage has it.

    `overlap` is the share of the sentence's telling words that the passage has; `missing_quotes` are what the sentence
    quotes and the passage does not have.
    """

    marker: int
    sentence: str
    document: str | None
    passage: str | None
    overlap: float
    missing_quotes: tuple[str, ...]

    @property
    def exists(self) -> bool:
        return self.passage is not None


@dataclass(frozen=True, kw_only=True)
class Unsupported:
    """A sentence that says something, and why it does not stand."""

    sentence: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Checked:
    """An answer's citations, and the sentences that no cited passage supports."""

    citations: tuple[Citation, ...]
    unsupported: tuple[Unsupported, ...]
    num_claims: int


@dataclass(frozen=True)
class _Read:
    """A passage as claims are compared with it."""

    passage: Passage

    @cached_property
    def words(self) -> frozenset[str]:
        return telling_words(f"{self.passage.title} {self.passage.text}")

    @cached_property
    def spoken(self) -> str:
        return _spoken(self.passage.text)


def check(answer: str, passages: Sequence[Passage], sourcing: Sourcing) -> Checked:
    """What each sentence cites, compared with the passages as they were shown.

    Raises `UnsupportedClaims` where the program is strict and a sentence is unsupported. A question, and a sentence
    that says that the sources do not, claim nothing.
    """
    read = {number: _Read(passage) for number, passage in enumerate(passages, start=1)}
    citations: list[Citation] = []
    unsupported: list[Unsupported] = []
    num_claims = 0
    for sentence, markers in _cited(answer):
        found = [_citation(sentence, marker, read.get(marker)) for marker in markers]
        citations += found
        if _claims(sentence):
            num_claims += 1
            reason = _why_not(sentence, found, read, sourcing.min_overlap)
            if reason is not None:
                unsupported.append(Unsupported(sentence=sentence, reason=reason))
    if sourcing.strict and unsupported:
        raise UnsupportedClaims(_told(unsupported, num_claims))
    return Checked(citations=tuple(citations), unsupported=tuple(unsupported), num_claims=num_claims)


def _cited(answer: str) -> Iterator[tuple[str, list[int]]]:
    """Sentences with the numbers that they cite. Markers behind a sentence's end belong to it, if it has none."""
    listed = _LIST.search(answer)
    text = answer[: listed.start()] if listed and listed.start() else answer
    held: tuple[str, list[int]] | None = None
    for sentence in _sentences(text):
        leading = _LEADING.match(sentence)
        if held is not None and leading is not None and not held[1]:
            held[1].extend(_numbers(leading.group()))
            held = (f"{held[0]} {leading.group().strip()}", held[1])
            sentence = sentence[leading.end() :]
        if not sentence:
            continue
        if held is not None:
            yield held
        held = (sentence, _numbers(sentence))
    if held is not None:
        yield held


def _sentences(text: str) -> Iterator[str]:
    """No sentence ends within a quotation."""
    quoted = deque(match.span() for match in _QUOTED.finditer(text))
    held: tuple[int, int] | None = None
    for begin, end in sentences(text):
        held = (begin if held is None else held[0], end)
        while quoted and quoted[0][1] <= end:
            quoted.popleft()
        if not (quoted and quoted[0][0] < end):
            yield text[held[0] : held[1]]
            held = None
    if held is not None:
        yield text[held[0] : held[1]]


def _numbers(sentence: str) -> list[int]:
    return list(dict.fromkeys(number for match in _MARKER.finditer(sentence) for number in _named(match.group(1))))


def _named(inside: str) -> Iterator[int]:
    for part in re.split(r"\s*(?:,|;|and)\s*", inside):
        ends = [int(number) for number in re.split(r"\s*[-\u2013]\s*", part)]
        if len(ends) == 2 and 0 <= ends[1] - ends[0] < MAX_RANGE:
            yield from range(ends[0], ends[1] + 1)
        else:
            yield from ends


def _citation(sentence: str, marker: int, read: _Read | None) -> Citation:
    quotes = _quotes(sentence)
    return Citation(
        marker=marker,
        sentence=sentence,
        document=None if read is None else read.passage.document,
        passage=None if read is None else read.passage.text,
        overlap=0.0 if read is None else _overlap(sentence, read.words),
        missing_quotes=tuple(quote for quote in quotes if read is None or _spoken(quote) not in read.spoken),
    )


def _claims(sentence: str) -> bool:
    bare = _MARKER.sub("", sentence)
    return bool(telling_words(bare)) and not bare.rstrip().endswith("?") and not _ABSTAINS.match(bare.lstrip())


def _why_not(sentence: str, cited: list[Citation], read: dict[int, _Read], min_overlap: float) -> str | None:
    """Why a sentence is unsupported; None where it is not."""
    if not cited:
        return "cites nothing"
    unknown = [citation.marker for citation in cited if not citation.exists]
    if unknown:
        return f"cites [{unknown[0]}], and there are {len(read)} passages"
    for quote in _quotes(sentence):
        if all(quote in citation.missing_quotes for citation in cited):
            return f"quotes {shown(quote)}, which the cited passage does not have"
    overlap = _overlap(sentence, frozenset().union(*(read[citation.marker].words for citation in cited)))
    if overlap < min_overlap:
        return f"shares {overlap:.0%} of its words with what it cites; {min_overlap:.0%} are asked for"
    return None


def _overlap(sentence: str, passage_words: Iterable[str]) -> float:
    said = telling_words(_MARKER.sub(" ", sentence))
    return len(said.intersection(passage_words)) / len(said) if said else 1.0


def _quotes(sentence: str) -> list[str]:
    return [next(part for part in match.groups() if part) for match in _QUOTED.finditer(sentence)]


def _spoken(text: str) -> str:
    """Letters' case, spaces and the ends' punctuation make no other quotation."""
    return " ".join(_MARKER.sub(" ", text).casefold().split()).strip(" .,;:!?\u2026")


def _told(unsupported: Sequence[Unsupported], num_claims: int) -> str:
    named = "; ".join(f"{shown(claim.sentence)} {claim.reason}" for claim in unsupported[:_MAX_NAMED])
    more = f"; and {len(unsupported) - _MAX_NAMED} more" if len(unsupported) > _MAX_NAMED else ""
    return f"{len(unsupported)} of {num_claims} sentences are not supported by the sources: {named}{more}"
