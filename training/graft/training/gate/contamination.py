"""Which held-out rows were trained on: the same question, or a long run of the same words.

The rule for runs of words is that of Brown et al. (2020, "Language Models are Few-Shot Learners", appendix C): 13 words
in a row that also stand in the training data, except runs that stand in more than ten of its rows, which are templates.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from graft.training.corpus.lines import hash_of
from graft.training.gate.rows import Row

NUM_WORDS, MAX_ROWS = 13, 10
_MAX_NAMED = 10
_WORD = re.compile(r"\w+")
_SIGN = re.compile(r"\w+|[^\w\s.,;:!?'\"()\-–—…]|(?<=\d)\s*[-–]\s*(?=\d)")
"""Words, and signs that make another question: 3 + 4 is not 3 - 4."""


def contamination(held_out: Sequence[Row], training: Iterable[Row], *, what: str) -> list[str]:
    """A sentence for each held-out row (of ``what``) that was trained on: of ten, and how many more there are."""
    questions = {hash_of(_plain(row.question)) for row in held_out}
    runs = {run for row in held_out for run in _runs(row)}
    seen_questions: dict[int, int] = {}
    seen_runs: dict[int, list[int]] = {}
    for row in training:
        question = hash_of(_plain(row.question))
        if question in questions:
            seen_questions.setdefault(question, row.line)
        for run in set(_runs(row)) & runs:
            lines = seen_runs.setdefault(run, [])
            if len(lines) <= MAX_ROWS:
                lines.append(row.line)
    told = [sentence for row in held_out for sentence in _about(row, seen_questions, seen_runs, what)]
    more = [f"and {len(told) - _MAX_NAMED} more"] if len(told) > _MAX_NAMED else []
    return told[:_MAX_NAMED] + more


def _about(row: Row, questions: dict[int, int], runs: dict[int, list[int]], what: str) -> Iterator[str]:
    line = questions.get(hash_of(_plain(row.question)))
    if line is not None:
        yield f"line {row.line} of {what} asks what line {line} of the training file asks"
        return
    for run in _runs(row):
        lines = runs.get(run, ())
        if 0 < len(lines) <= MAX_ROWS:
            yield f"line {row.line} of {what} has {NUM_WORDS} words in a row of line {lines[0]} of the training file"
            return


def _runs(row: Row) -> Iterator[int]:
    words = _words(f"{row.question}\n{row.answer or ''}")
    return (hash_of(" ".join(words[at : at + NUM_WORDS])) for at in range(len(words) - NUM_WORDS + 1))


def _plain(text: str) -> str:
    """Case, spaces and punctuation make no other question; where there is nothing else, the text itself."""
    signs = [sign.strip() for sign in _SIGN.findall(_folded(text))]
    return " ".join(signs) if signs else text.strip()


def _words(text: str) -> list[str]:
    return _WORD.findall(_folded(text))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
