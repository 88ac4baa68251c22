"""Choices scored by a model: what is asked of it for each way to compare and to calibrate."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass

from graft.server.engine.engine import ContinuationScore
from graft.server.errors import BadInput, Violation
from graft.server.prompting.asking import Asker, Written, WrittenTurn
from graft.server.prompting.choices import calibration
from graft.server.prompting.choices.calibration import BatchPriors
from graft.server.prompting.choices.scoring import (
    Likelihood,
    ScoredChoice,
    alike,
    best,
    normalized,
    scored,
)
from graft.server.prompting.program.checks import MAX_CHOICES
from graft.server.prompting.program.program import Calibration, Scoring
from graft.server.runtime.bounded import Bounded
from graft.server.runtime.violations import Violations, shown

_MAX_KEPT = 1024


@dataclass(frozen=True, kw_only=True)
class ChoiceQuestion:
    """A prompt and what may follow it, with `before` in front of each (a blank, in most texts).

    `content_free`: the same prompt, asked about nothing (for contextual calibration). `key` says whose answers these
    are, by tenant, program's version and model's; with None nothing is remembered.
    """

    prompt: Written
    choices: tuple[str, ...]
    before: str = ""
    content_free: tuple[Written, ...] = ()
    key: Hashable = None


@dataclass(frozen=True, kw_only=True)
class ChoiceAnswer:
    """All choices in their order; `ties` are others that are as good as the best. `num_tokens` were scored for it."""

    choices: tuple[ScoredChoice, ...]
    best: int
    ties: tuple[int, ...]
    notices: tuple[str, ...]
    num_tokens: int

    @property
    def answer(self) -> str:
        return self.choices[self.best].text


def check_choices(choices: Sequence[str], violations: Violations, *, field: str = "output.choices") -> None:
    """Adds what makes choices unfit to be compared."""
    if not 2 <= len(choices) <= MAX_CHOICES:
        violations.add(field, f"there are {len(choices)} choices: between 2 and {MAX_CHOICES} can be compared")
        return
    for group in alike(choices):
        for index in violations.until_full(group[1:]):
            violations.add(f"{field}[{index}]", f"{shown(choices[index])} is there already: name each choice once")
    for index, choice in violations.until_full(enumerate(choices)):
        if not choice:
            violations.add(f"{field}[{index}]", "is empty: a choice has at least one character")


def premise_of(prompt: Written, scoring: Scoring, before: str = "") -> Written:
    """Of pmi: the domain's premise alone. By default the prompt's last line, which says what comes next."""
    if scoring.premise is not None:
        return alone(prompt, scoring.premise, before)
    last = prompt.turns[-1].content if prompt.turns else prompt.text or ""
    return alone(prompt, last.rstrip("\n").rpartition("\n")[2] or last, before)


def check_premise(prompt: Written, premise: Written) -> None:
    """Raises `BadInput` where the premise is the prompt, as the last line of a prompt of one line is."""
    whole = prompt.turns[0].content if len(prompt.turns) == 1 else prompt.text
    said = premise.turns[0].content if premise.turns else premise.text
    if whole is not None and said is not None and whole.strip() == said.strip():
        problem = (
            "is the whole prompt, so that nothing is left of any score: give the words that come before an answer "
            'whatever is asked, such as "Answer:"'
        )
        raise BadInput(Violation(field="scoring.premise", problem=problem))


def alone(prompt: Written, text: str, before: str = "") -> Written:
    """A prompt of the same kind that says nothing but this.

    A choice has one blank in front of it, `before` or the text's own: with two its tokens would be others.
    """
    if prompt.text is None:
        return Written(turns=(WrittenTurn(role="user", content=text),), begun=prompt.begun)
    if before[:1].isspace() and not prompt.begun:
        text = text.rstrip() or text
    return Written(text=text, begun=prompt.begun)


class ChoiceAsking:
    """Keeps what later questions use again: batch calibration's means, and scores that depend on no input."""

    def __init__(self) -> None:
        self._priors = BatchPriors()
        self._without_input: Bounded[list[Likelihood]] = Bounded(_MAX_KEPT)

    async def ask(self, asker: Asker, question: ChoiceQuestion, scoring: Scoring) -> ChoiceAnswer:
        """Compare the choices. Raises `BadInput` with all reasons at once, and what `Asker.score` does."""
        violations = Violations()
        check_choices(question.choices, violations)
        violations.raise_any()
        premise = premise_of(question.prompt, scoring, question.before)
        if scoring.calibration is Calibration.PMI:
            check_premise(question.prompt, premise)
        asked = _Asked(asker, question, scoring, self._without_input)
        likelihoods = await asked.likelihoods(question.prompt)
        scores = [normalized(each, scoring.normalize) for each in likelihoods]
        notices = _alike_notices(likelihoods)
        match scoring.calibration:
            case Calibration.CONTEXTUAL:
                scores = calibration.contextual(scores, [await asked.scores(each) for each in question.content_free])
            case Calibration.PMI:
                scores = calibration.domain_conditional(scores, await asked.scores(premise))
            case Calibration.BATCH:
                scores, early = self._batch(question, scoring, scores)
                notices += early
        found = best(scores)
        return ChoiceAnswer(
            choices=scored(likelihoods, scores),
            best=found[0],
            ties=tuple(found[1:]),
            notices=(*notices, *_tie_notices(question.choices, found)),
            num_tokens=asked.num_tokens,
        )

    def _batch(
        self, question: ChoiceQuestion, scoring: Scoring, scores: Sequence[float]
    ) -> tuple[list[float], list[str]]:
        priors = BatchPriors() if question.key is None else self._priors
        prior = priors.add((question.key, question.choices, scoring.normalize), scores)
        early = prior.num_inputs < BatchPriors.MIN_INPUTS
        notice = (
            f"batch calibration begins with input {BatchPriors.MIN_INPUTS} of a program and a model; "
            f"this is input {prior.num_inputs}, and its scores are not calibrated"
        )
        return calibration.batch(scores, prior), [notice] * early


class _Asked:
    """What is asked for one question."""

    def __init__(
        self, asker: Asker, question: ChoiceQuestion, scoring: Scoring, without_input: Bounded[list[Likelihood]]
    ) -> None:
        self._asker = asker
        self._question = question
        self._scoring = scoring
        self._continuations = [question.before + choice for choice in question.choices]
        self._without_input = without_input
        self.num_tokens = 0

    async def likelihoods(self, prompt: Written) -> list[Likelihood]:
        """Of all choices, with the unconditional ones where these are asked for."""
        found = await self._score(prompt)
        plain: list[float | None] = [None] * len(found)
        if self._scoring.normalize == "unconditional":
            nothing = alone(self._question.prompt, self._scoring.unconditional_prompt, self._question.before)
            plain = [each.logprob for each in await self._kept(nothing, self._score)]
        return [
            Likelihood(text=each.text, token_ids=each.token_ids, logprob=each.logprob, unconditional=other)
            for each, other in zip(found, plain, strict=True)
        ]

    async def scores(self, prompt: Written) -> list[float]:
        """After a prompt that no input changes."""
        found = await self._kept(prompt, self.likelihoods, self._scoring.normalize, self._scoring.unconditional_prompt)
        return [normalized(each, self._scoring.normalize) for each in found]

    async def _kept(
        self, prompt: Written, ask: Callable[[Written], Awaitable[list[Likelihood]]], *how: str
    ) -> list[Likelihood]:
        """What was asked before, where the question has a key. Two at once may both ask: the answers are the same."""
        if self._question.key is None:
            return await ask(prompt)
        key = (self._question.key, prompt, tuple(self._continuations), *how)
        if (kept := self._without_input.peek(key)) is not None:
            return kept
        found = await ask(prompt)
        return self._without_input.get(key, lambda: found)

    async def _score(self, prompt: Written) -> list[Likelihood]:
        found = await self._asker.score(prompt, self._continuations)
        self.num_tokens += sum(len(each.tokens) for each in found)
        return [_likelihood(text, each) for text, each in zip(self._question.choices, found, strict=True)]


def _likelihood(text: str, found: ContinuationScore) -> Likelihood:
    return Likelihood(text=text, token_ids=tuple(token.token_id for token in found.tokens), logprob=found.logprob)


def _alike_notices(likelihoods: Sequence[Likelihood]) -> list[str]:
    groups = alike(each.token_ids for each in likelihoods)
    return [f"choices {_named(likelihoods, group)} are the same tokens to this model" for group in groups]


def _named(likelihoods: Sequence[Likelihood], group: Sequence[int]) -> str:
    return " and ".join(shown(likelihoods[index].text) for index in group)


def _tie_notices(choices: Sequence[str], found: Sequence[int]) -> list[str]:
    if len(found) < 2:
        return []
    others = ", ".join(shown(choices[index]) for index in found[1:])
    return [f"{shown(choices[found[0]])} is as likely as {others}: the first of them is the answer"]
