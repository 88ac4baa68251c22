"""The passages that a question is likely answered by: BM25 over all passages of all documents, and nothing stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

import bm25s
import numpy as np

from graft.server.errors import BadInput, Violation
from graft.server.prompting.program.documents import check_documents
from graft.server.prompting.program.program import Document, Sourcing
from graft.server.prompting.sources.passages import Passage, forged, passages
from graft.server.prompting.sources.words import words
from graft.server.runtime.violations import Violations

MAX_PASSAGES = 20_000
_MAX_QUERY_WORDS = 512


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What is shown: the first passage is number 1. `notices` say what was rewritten in the documents."""

    passages: tuple[Passage, ...]
    scores: tuple[float, ...]
    notices: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One line for each: `[1] title: text`."""
        return "\n".join(
            f"[{number}] {passage.title}: {passage.text}" for number, passage in enumerate(self.passages, start=1)
        )

    def best(self, count: int) -> Sources:
        """The `count` passages with the highest scores, the earlier of equal ones, in their order."""
        nearest = sorted(range(len(self.scores)), key=lambda index: (-self.scores[index], index))
        kept = sorted(nearest[:count])
        return replace(
            self,
            passages=tuple(self.passages[index] for index in kept),
            scores=tuple(self.scores[index] for index in kept),
        )


class Library:
    """Documents, cut and counted once. Making one takes up to a second, and asking it a millisecond."""

    def __init__(self, documents: Sequence[Document], passage_words: int) -> None:
        """Raises `BadInput` for documents that are too many, too long, empty or the same by their ids."""
        violations = Violations()
        check_documents(documents, violations)
        violations.raise_any()
        self._passages = list(islice(_all(documents, passage_words), MAX_PASSAGES + 1))
        if len(self._passages) > MAX_PASSAGES:
            problem = f"{passage_words} words make more than {MAX_PASSAGES} passages of these documents: raise it"
            raise BadInput(Violation(field="sourcing.passage_words", problem=problem))
        self._forged = {document.id: notice for document in documents if (notice := forged(document))}
        corpus = [words(f"{passage.title} {passage.text}") for passage in self._passages]
        self._index = bm25s.BM25() if any(corpus) else None
        if self._index is not None:
            self._index.index(corpus, show_progress=False)

    def picked(self, query: str, count: int) -> Sources:
        """The `count` passages that score best, the earlier of equal ones, in the documents' order."""
        scores = np.zeros(len(self._passages), dtype=np.float32)
        asked = words(query)[:_MAX_QUERY_WORDS]
        if self._index is not None and asked:
            scores = self._index.get_scores(asked)
        best = sorted(np.argsort(-scores, kind="stable")[:count].tolist())
        picked = tuple(self._passages[index] for index in best)
        notices = [self._forged[name] for name in dict.fromkeys(one.document for one in picked) if name in self._forged]
        if not self._passages:
            notices.append("there are no documents: the answer can cite nothing")
        elif not scores.any():
            notices.append(f"no passage shares a word with the question: the first {len(picked)} are shown")
        return Sources(passages=picked, scores=tuple(scores[best].tolist()), notices=tuple(notices))


def _all(documents: Sequence[Document], passage_words: int) -> Iterator[Passage]:
    for document in documents:
        yield from passages(document, passage_words)


@lru_cache(maxsize=8)
def _stored(documents: tuple[Document, ...], passage_words: int) -> Library:
    return Library(documents, passage_words)


def sources(stored: tuple[Document, ...], given: Sequence[Document], sourcing: Sourcing, *, query: str) -> Sources:
    """From a version's documents and a request's. Takes up to half a second where these are long: call it in a thread.

    Raises `BadInput`.
    """
    if given:
        library = Library((*stored, *given), sourcing.passage_words)
    else:
        library = _stored(stored, sourcing.passage_words)
    return library.picked(query, sourcing.count)
