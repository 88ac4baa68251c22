"""Questions about a context that holds their answers: SQuAD's rows (Rajpurkar et al. 2016, arXiv:1606.05250)."""

from __future__ import annotations

from dataclasses import dataclass

from graft.adapters.text.problems import BadLine
from graft.training.tasks.rows.reading import Row, check_names, shown, text_of


@dataclass(frozen=True, kw_only=True)
class Answer:
    """``begin`` is the place of its first character in the context."""

    text: str
    begin: int

    @property
    def end(self) -> int:
        return self.begin + len(self.text)


@dataclass(frozen=True, kw_only=True)
class Question:
    """Without answers where the context does not hold one."""

    context: str
    question: str
    answers: tuple[Answer, ...]


def question(row: Row) -> Question:
    """Of ``context``, ``question`` and ``answers`` with ``text`` and ``answer_start``. Raises ``BadLine``."""
    check_names(row, ("context", "question", "answers"))
    context, asked, answers = text_of(row, "context"), text_of(row, "question"), row.get("answers")
    if not isinstance(answers, dict) or not {"text", "answer_start"} <= answers.keys():
        raise BadLine("answers must be an object with the lists text and answer_start, empty where there is no answer.")
    texts, begins = answers["text"], answers["answer_start"]
    if not isinstance(texts, list) or not isinstance(begins, list) or len(texts) != len(begins):
        raise BadLine("answers must have as many in text as in answer_start.")
    found = [_answer(context, text, begin) for text, begin in zip(texts, begins, strict=True)]
    return Question(context=context, question=asked, answers=tuple(found))


def _answer(context: str, text: object, begin: object) -> Answer:
    if not isinstance(text, str) or not text.strip() or not isinstance(begin, int) or isinstance(begin, bool):
        raise BadLine(f"an answer is a text and the place where it begins, not {shown(text)} and {shown(begin)}.")
    there = context[max(0, begin) : max(0, begin) + len(text)]
    if begin < 0 or there != text:
        raise BadLine(f"answer_start {begin} is wrong: {shown(there)} stands there, not {shown(text)}.")
    return Answer(text=text, begin=begin)
