"""Sequence distillation (Kim & Rush 2016, arXiv:1606.07947, §3.2): rows whose answers a served teacher writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.client import Client, InvalidArgument
from graft.client.generation import Choice, Generation
from graft.training.distill.prompts import Question
from graft.training.errors import DataError
from graft.training.evaluation.asking.side_by_side import each
from graft.training.runtime.disk import put_text
from graft.v1.common_pb2 import Answerer

NUM_FIRST = 8
"""Rows that are told."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """``temperature`` 0 is greedy; ``top_logprobs`` is how many of each token's likeliest are kept beside the rows."""

    client: Client
    model: str
    max_tokens: int
    temperature: float = 0.0
    num_answers: int = 1
    seed: int = 0
    top_logprobs: int | None = None

    @property
    def name(self) -> str:
        """Of who is asked."""
        return self.model or "the base"

    def ask(self, numbered: tuple[int, Question]) -> Generation | None:
        """None for a question that the server does not take."""
        number, question = numbered
        try:
            return self.client.generate(
                question.asked,
                model=self.model,
                num_choices=self.num_answers,
                logprobs=self.top_logprobs,
                max_tokens=self.max_tokens,
                temperature=self.temperature,
                seed=self.seed + number,
            )
        except InvalidArgument:
            return None


@dataclass(frozen=True, kw_only=True)
class Told:
    """How many answers were written, and why others were not."""

    num_rows: int
    num_refused: int
    """Questions that the server did not take, most often because they are longer than the context."""
    num_cut: int
    """Answers that had not ended after ``max_tokens``: nobody should learn to stop there."""
    num_empty: int
    lengths: tuple[int, ...]
    """Tokens of each row's answer."""
    answerers: tuple[str, ...]
    """Who answered: an adapter's version, and its base."""
    first: tuple[tuple[str | list[dict[str, str]], str], ...]
    """What the first rows ask, and what was answered."""


def distill(questions: Sequence[Question], asking: Asking, output: Path) -> Told:
    """Writes the rows to ``output``, and with ``top_logprobs`` the teacher's log-probabilities beside it, a line for
    each row: token ids, and for each the likeliest with theirs.

    Raises:
        DataError: nothing was answered.
        NotWritten, GraftClientError: the disk or the server does not let it.
    """
    answers = each(asking.ask, list(enumerate(questions)), about="asking")
    given = [(question, one) for question, one in zip(questions, answers, strict=True) if one is not None]
    pairs = [(question, one) for question, answer in given for one in answer.choices]
    whole = [(question, one) for question, one in pairs if one.finish_reason != "length" and one.text.strip()]
    told = Told(
        num_rows=len(whole),
        num_refused=len(answers) - len(given),
        num_cut=sum(one.finish_reason == "length" for _, one in pairs),
        num_empty=sum(one.finish_reason != "length" and not one.text.strip() for _, one in pairs),
        lengths=tuple(len(one.token_ids) for _, one in whole),
        answerers=tuple(dict.fromkeys(_who(one.answerer) for _, one in given)),
        first=tuple((question.asked, one.text) for question, one in whole[:NUM_FIRST]),
    )
    if not whole:
        raise DataError(
            f"no answer can be learned from: {told.num_refused} questions were refused, {told.num_cut} answers had not "
            f"ended after {asking.max_tokens} tokens, {told.num_empty} were empty."
        )
    if asking.top_logprobs is not None:
        put_text(logprobs_of(output), "".join(_line(_likeliest(one)) for _, one in whole))
    put_text(output, "".join(_line(question.answered(one.text)) for question, one in whole))
    return told


def _who(answerer: Answerer) -> str:
    base = f"{answerer.base} ({answerer.base_digest})"
    if not answerer.version_digest:
        return base
    return f"{answerer.adapter}@{answerer.version_number} ({answerer.version_digest}) on {base}"


def logprobs_of(output: Path) -> Path:
    """Where the teacher's log-probabilities lie."""
    return output.with_name(f"{output.stem}.logprobs.jsonl")


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def _likeliest(choice: Choice) -> Mapping[str, Any]:
    return {
        "token_ids": list(choice.token_ids),
        "top": [[[one.token_id, one.logprob] for one in token.alternatives] for token in choice.logprobs],
    }
