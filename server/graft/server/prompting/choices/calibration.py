"""What a model says of choices whatever is asked, taken off. Log-probabilities and scores are natural logarithms."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from graft.server.prompting.choices.scoring import log_softmax, probabilities

LEAST = 1e-12
"""A probability that is taken for a smaller one, so that nothing is divided by 0."""


def contextual(scores: Sequence[float], content_free: Sequence[Sequence[float]]) -> list[float]:
    """log p − log p_cf: p over the choices, p_cf its mean over content-free inputs (Zhao et al. 2021).

    The greatest of it is the greatest of their W·p with W = diag(p_cf)⁻¹ and b = 0; as probabilities W·p is made to
    add up to 1. Raises `ValueError` without content-free scores.
    """
    if not content_free:
        raise ValueError("contextual calibration needs the scores of at least one content-free input")
    return less_prior(scores, mean([probabilities(each) for each in content_free]))


def domain_conditional(scores: Sequence[float], premise: Sequence[float]) -> list[float]:
    """log p(y|x) − log p(y|premise): pointwise mutual information in a domain (Holtzman et al. 2021,
    arXiv:2104.08315)."""
    return [score - _finite(other) for score, other in zip(scores, premise, strict=True)]


def less_prior(scores: Sequence[float], prior: Sequence[float]) -> list[float]:
    """log p − log prior, p being the softmax of the scores."""
    return [
        score - math.log(max(each, LEAST)) for score, each in zip(log_softmax(scores), _one_sum(prior), strict=True)
    ]


def mean(rows: Sequence[Sequence[float]]) -> list[float]:
    """Column by column."""
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]


def _one_sum(prior: Sequence[float]) -> list[float]:
    total = math.fsum(prior)
    return [each / total for each in prior]


def _finite(logprob: float) -> float:
    return max(logprob, math.log(LEAST) * 10)


@dataclass(frozen=True, kw_only=True)
class Prior:
    """The mean of the choices' probabilities over so many inputs."""

    mean: tuple[float, ...]
    num_inputs: int


class BatchPriors:
    """Running means for batch calibration (Zhou et al. 2023, arXiv:2309.17249), kept in memory.

    A key is whatever shares a prior: program version, model and choices. The key that was used longest ago is
    forgotten when there are more than `max_keys`.
    """

    MIN_INPUTS = 10
    """With fewer the mean says more of these inputs than of the prompt; with one alone all choices would tie."""

    def __init__(self, max_keys: int = 1024) -> None:
        self._max_keys = max_keys
        self._sums: OrderedDict[Hashable, tuple[list[float], int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sums)

    def add(self, key: Hashable, scores: Sequence[float]) -> Prior:
        """Count an input's probabilities and give the mean, in which it has its part."""
        sums, count = self._sums.pop(key, ([0.0] * len(scores), 0))
        sums = [before + each for before, each in zip(sums, probabilities(scores), strict=True)]
        self._sums[key] = (sums, count + 1)
        while len(self._sums) > self._max_keys:
            self._sums.popitem(last=False)
        return Prior(mean=tuple(each / (count + 1) for each in sums), num_inputs=count + 1)


def batch(scores: Sequence[float], prior: Prior) -> list[float]:
    """log p − log of the mean over inputs; log p alone until there are `BatchPriors.MIN_INPUTS` of them."""
    if prior.num_inputs < BatchPriors.MIN_INPUTS:
        return log_softmax(scores)
    return less_prior(scores, prior.mean)
