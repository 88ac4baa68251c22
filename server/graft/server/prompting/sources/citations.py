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

MAX_CITED = 32
"""Passages that a sentence may cite; one that cites more is supported by none."""
_MAX_NAMED = 8

_MARKER = re.compile(r"\[\s*(\d{1,6}(?:\s*(?:,|;|and|-|\u2013)\s*\d{1,6})*)\s*\]")
_LEADING = re.compile(r"(?:\s*\[[\d\s,;\u2013-]+\])+[.,;]?\s*")
_QUOTED = re.compile(r"\"([^\"\n]{2,2000})\"|\u201c([^\u201d\n]{2,2000})\u201d|\u00ab([^\u00bb\n]{2,2000})\u00bb")
_LIST = re.compile(r"^[ \t]*(?:sources?|references?|citations?)[ \t]*:?[ \t]*(?=\[|$)", re.IGNORECASE | re.MULTILINE)
_CLAUSE = re.compile(r"[,;:\u2014]|\b(?:but|however|yet)\b", re.IGNORECASE)
_TELL = r"(?:answer|contain|cover|describe|explain|give|include|know|mention|name|provide|say|specify|state|tell)"
_SOURCES = r"(?:sources?|passages?|documents?|texts?)"
_ABSTAINS = re.compile(
    r"\s*(?:sorry|unfortunately|and|as|because|since)?\s*(?:"
    rf"(?:i|we) (?:do not|don't|cannot|can't|can not) {_TELL}|"
    rf"(?:it|this|that) is not (?:known|given|mentioned|said|stated)|"
    rf"(?:the|these|given|the given) {_SOURCES} (?:do not|does not|don't|doesn't) {_TELL}|"
    rf"(?:none|neither) of the {_SOURCES} {_TELL}s?|$)",
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
    def title(self) -> frozenset[str]:
        return telling_words(f"{self.passage.title} {self.passage.document}")

    @cached_property
    def words(self) -> frozenset[str]:
        return telling_words(f"{self.passage.title} {self.passage.text}")

    @cached_property
    def spoken(self) -> str:
        return _spoken(self.passage.text)


@dataclass(frozen=True, kw_only=True)
class _Sentence:
    """A sentence of the answer, and the numbers that it cites: each once, in their order."""

    text: str
    markers: tuple[int, ...]

    @cached_property
    def words(self) -> frozenset[str]:
        return telling_words(_MARKER.sub(" ", self.text))

    @cached_property
    def quotes(self) -> tuple[str, ...]:
        found = (next(part for part in match.groups() if part) for match in _QUOTED.finditer(self.text))
        return tuple(dict.fromkeys(found))

    @property
    def claims(self) -> bool:
        """A question claims nothing, nor does a sentence whose clauses all say that the answer is not known."""
        bare = _MARKER.sub("", self.text).rstrip(" .!")
        return bool(self.words) and not bare.endswith("?") and not all(map(_ABSTAINS.match, _CLAUSE.split(bare)))

    def overlap(self, passage_words: Iterable[str]) -> float:
        """The share of the sentence's telling words that are among these."""
        return len(self.words.intersection(passage_words)) / len(self.words) if self.words else 1.0


def check(answer: str, passages: Sequence[Passage], sourcing: Sourcing) -> Checked:
    """What each sentence cites, compared with the passages as they were shown.

    Raises `UnsupportedClaims` where the program is strict and a sentence is unsupported. A question, and a sentence
    that says that the sources do not, claim nothing.
    """
    read = {number: _Read(passage) for number, passage in enumerate(passages, start=1)}
    citations: list[Citation] = []
    unsupported: list[Unsupported] = []
    num_claims = 0
    for sentence in _cited(answer, read):
        found = [_citation(sentence, marker, read.get(marker)) for marker in sentence.markers[:MAX_CITED]]
        citations += found
        if sentence.claims:
            num_claims += 1
            reason = _why_not(sentence, found, read, sourcing.min_overlap)
            if reason is not None:
                unsupported.append(Unsupported(sentence=sentence.text, reason=reason))
    if sourcing.strict and unsupported:
        raise UnsupportedClaims(_told(unsupported, num_claims))
    return Checked(citations=tuple(citations), unsupported=tuple(unsupported), num_claims=num_claims)


def _cited(answer: str, read: dict[int, _Read]) -> Iterator[_Sentence]:
    """The answer's sentences. In a list of sources at its end, lines that only name a passage are none."""
    listed = _LIST.search(answer)
    if listed is None:
        yield from _with_markers(answer, len(read))
        return
    yield from _with_markers(answer[: listed.start()], len(read))
    for line in answer[listed.end() :].splitlines():
        words = telling_words(_MARKER.sub(" ", line))
        if not any(words <= one.title for one in read.values()):
            yield from _with_markers(line, len(read))


def _with_markers(text: str, num_passages: int) -> Iterator[_Sentence]:
    """Markers behind a sentence's end belong to it, if it has none."""
    held: tuple[str, list[int]] | None = None
    for sentence in _sentences(text):
        leading = _LEADING.match(sentence)
        if held is not None and leading is not None and not held[1]:
            held = (f"{held[0]} {leading.group().strip()}", _numbers(leading.group(), num_passages))
            sentence = sentence[leading.end() :]
        if not sentence:
            continue
        if held is not None:
            yield _Sentence(text=held[0], markers=tuple(held[1]))
        held = (sentence, _numbers(sentence, num_passages))
    if held is not None:
        yield _Sentence(text=held[0], markers=tuple(held[1]))


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


def _numbers(sentence: str, num_passages: int) -> list[int]:
    named = (number for match in _MARKER.finditer(sentence) for number in _named(match.group(1), num_passages))
    return list(dict.fromkeys(named))


def _named(inside: str, num_passages: int) -> Iterator[int]:
    """Of a range that goes on behind the last passage, its end stands for all that are not there."""
    for part in re.split(r"\s*(?:,|;|and)\s*", inside):
        ends = [int(number) for number in re.split(r"\s*[-\u2013]\s*", part)]
        if len(ends) == 2 and ends[0] <= ends[1]:
            yield from range(ends[0], min(ends[1], num_passages) + 1)
        yield from ends[-1:] if len(ends) == 2 and ends[0] <= ends[1] else ends


def _citation(sentence: _Sentence, marker: int, read: _Read | None) -> Citation:
    return Citation(
        marker=marker,
        sentence=sentence.text,
        document=None if read is None else read.passage.document,
        passage=None if read is None else read.passage.text,
        overlap=0.0 if read is None else sentence.overlap(read.words),
        missing_quotes=tuple(quote for quote in sentence.quotes if read is None or _spoken(quote) not in read.spoken),
    )


def _why_not(sentence: _Sentence, cited: list[Citation], read: dict[int, _Read], min_overlap: float) -> str | None:
    """Why a sentence is unsupported; None where it is not."""
    if not cited:
        return "cites nothing"
    if len(sentence.markers) > MAX_CITED:
        return f"cites {len(sentence.markers)} passages; the limit is {MAX_CITED}"
    unknown = [citation.marker for citation in cited if not citation.exists]
    if unknown:
        return f"cites [{unknown[0]}], and there are {len(read)} passages"
    for quote in sentence.quotes:
        if all(quote in citation.missing_quotes for citation in cited):
            return f"quotes {shown(quote)}, which the cited passage does not have"
    overlap = sentence.overlap(frozenset().union(*(read[citation.marker].words for citation in cited)))
    if overlap < min_overlap:
        return f"shares {overlap:.0%} of its words with what it cites; {min_overlap:.0%} are asked for"
    return None


def _spoken(text: str) -> str:
    """Letters' case, spaces and the ends' punctuation make no other quotation."""
    return " ".join(_MARKER.sub(" ", text).casefold().split()).strip(" .,;:!?\u2026")


def _told(unsupported: Sequence[Unsupported], num_claims: int) -> str:
    named = "; ".join(f"{shown(claim.sentence)} {claim.reason}" for claim in unsupported[:_MAX_NAMED])
    more = f"; and {len(unsupported) - _MAX_NAMED} more" if len(unsupported) > _MAX_NAMED else ""
    return f"{len(unsupported)} of {num_claims} sentences are not supported by the sources: {named}{more}"
